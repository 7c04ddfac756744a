//! What must be true of a configuration that is read, whatever is written in it.

use std::path::Path;

use lb_userspace::config::{Config, ConfigError};

/// Whether the text is a configuration. Panics where the answer is wrong.
pub fn accepted(bytes: &[u8]) -> bool {
    // Files that are no text are refused by those who open them.
    let Ok(text) = std::str::from_utf8(bytes) else {
        return false;
    };
    match read(text) {
        Ok(config) => {
            assert!(!config.node.is_empty());
            assert_eq!(
                read(&format!("{text}\n# end\n")).expect("the same and a comment"),
                config
            );
            true
        }
        Err(error) => {
            let said = error.to_string();
            assert!(said.starts_with("portico.toml:"), "{said}");
            assert_eq!(said.lines().count(), 3, "{said:?}");
            if let ConfigError::Invalid { line, column, .. } = error {
                let longest = text.split('\n').nth(line - 1).map(|line| line.chars().count());
                assert!(longest.is_some_and(|longest| column <= longest + 1), "{said}");
            }
            false
        }
    }
}

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("portico.toml"), text)
}
