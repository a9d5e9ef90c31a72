//! The analyzer's integration tests in one program: one link, and one pool of threads for all of them.
//! `cargo test --release -p analyzer --test all reports::` runs the tests of one file.

mod bad_input;
mod bad_servers;
mod bombs;
mod command_line;
mod counts_of_processes;
mod doctor;
mod doctor_in_confinement;
mod event_logs;
mod first_screen;
mod fixture;
mod follow;
mod full_disks;
mod hostile_files;
mod html_report;
mod ingest;
mod other_readers;
mod other_views;
mod refused_programs;
mod released_stores;
mod report_by_directory;
mod report_by_time;
mod reports;
mod rogue_history_servers;
mod rogue_servers;
mod server_speed;
mod server_store;
mod terminals;
mod three_paths;
mod traced_counts;
mod traced_process;

#[test]
fn every_file_is_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/all");
    let main = include_str!("main.rs");
    for entry in std::fs::read_dir(folder).expect("the folder of the tests") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name in UTF-8");
        let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") else {
            continue;
        };
        assert!(main.contains(&format!("\nmod {module};\n")), "main.rs lacks `mod {module};`");
    }
}
