//! The integration tests of everything in one program: one link, and one pool of threads for all of them.
//! `cargo test -p tests --test all shim_lives::` runs the tests of one file.

mod behind_calls;
mod changing_code;
mod conf_and_log_files;
mod descriptor_kinds;
mod directory_counts;
mod environment_of_others;
mod forked_children;
mod guest_calls;
mod guest_children;
mod guest_credentials;
mod guest_ends;
mod guest_filters;
mod guest_folders;
mod guest_io;
mod guest_limits;
mod half_followed;
mod helper_process;
mod hooks_change_nothing;
mod inspected_code;
mod invisible_guest;
mod native_passes;
mod native_soak;
mod no_java;
mod no_secrets_in_records;
mod oracle;
mod output_folder_trust;
mod processes;
mod programs;
mod python_workers;
mod random_programs;
mod records_survive;
mod refused_memory;
mod released_threads;
mod rewritten_files;
mod rewritten_programs;
mod shim_counts;
mod shim_lives;
mod shim_loads;
mod shim_roles;
mod stalker;
mod stays_followed;
mod store_size;
mod surroundings;
mod system_calls_complete;
mod task_threads;
mod trace_bad_output;
mod unwritable_records_are_told;

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
