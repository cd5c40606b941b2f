//! The pages match the program, and their links lead somewhere.

mod common;

use std::path::Path;

use common::root;

mod command_line {
    include!("common/command_line_page.rs");
}

#[test]
fn the_command_line_page_is_what_the_program_says() {
    let page = command_line::command_line_page(env!("CARGO_BIN_EXE_fnet")).unwrap();
    let stored = std::fs::read_to_string(root().join("docs/command-line.md")).unwrap();
    assert!(
        page == stored,
        "docs/command-line.md is not of this program: CONTRIBUTING.md says how to write it again"
    );
}

#[test]
fn links_of_pages_lead_somewhere() {
    let pages = ["README.md", "CONTRIBUTING.md", "data/README.md"].map(String::from).into_iter();
    let docs = root().join("docs").read_dir().unwrap().flatten();
    let docs = docs.map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    let mut checked = 0;
    for page in pages.chain(docs.filter(|name| name.ends_with(".md"))) {
        let text = std::fs::read_to_string(root().join(&page)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            if path.is_empty() || path.contains("://") || path.contains(' ') {
                continue;
            }
            let folder = Path::new(&page).parent().unwrap();
            assert!(root().join(folder).join(path).exists(), "{page}: {link}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked}");
}

#[test]
fn readme_is_read_in_three_minutes() {
    let lines = std::fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 150, "{lines} lines");
}
