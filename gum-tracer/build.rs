//! Finds frida-gum's devkit, and says how to get one.

use std::{env, path::Path, process::exit};

const HOW: &str = "put frida-gum.h and libfrida-gum.a of frida-gum-devkit 17.9.5 for linux-x86_64 \
(https://github.com/frida/frida/releases/tag/17.9.5) into a folder and name it: FRIDA_GUM_DEVKIT=/the/folder ./run test-gum; \
or build with the feature auto-download, which fetches it";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=FRIDA_GUM_DEVKIT");
    println!("cargo:rerun-if-env-changed=DOCS_RS");
    // With DOCS_RS the bindings come with the crate: types can be checked, nothing can be linked.
    if env::var_os("DOCS_RS").is_some() || env::var_os("CARGO_FEATURE_AUTO_DOWNLOAD").is_some() {
        return;
    }
    let Some(folder) = env::var("FRIDA_GUM_DEVKIT").ok().filter(|folder| !folder.is_empty()) else {
        refuse("FRIDA_GUM_DEVKIT is not set");
    };
    for file in ["frida-gum.h", "libfrida-gum.a"] {
        if !Path::new(&folder).join(file).is_file() {
            refuse(&format!("FRIDA_GUM_DEVKIT={folder} has no {file}"));
        }
    }
    println!("cargo:rustc-link-search=native={folder}");
    // Tests of this crate; the library that is preloaded has this line in its own build script.
    for question in ["gum_query_cpu_features", "gum_module_find_export_by_name"] {
        println!("cargo:rustc-link-arg=-Wl,--wrap={question}");
    }
}

fn refuse(why: &str) -> ! {
    println!("cargo:error=gum-tracer: {why}; {HOW}");
    exit(1)
}
