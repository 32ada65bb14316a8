//! The effective configuration, for those who ask a running process why it does what it does.

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

/// Every flag of a command with its value and where that came from. The values of flags that hide
/// them from `--help` are secrets and left out.
pub fn effective(command: &Command, matches: &ArgMatches) -> Value {
    let mut flags = Map::new();
    for flag in command.get_arguments() {
        let Some(name) = flag.get_long() else { continue };
        let id = flag.get_id().as_str();
        let Some(raw) = matches.try_get_raw(id).ok().flatten() else { continue };
        let values: Vec<_> = raw.map(|value| value.to_string_lossy()).collect();
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "command line",
            Some(ValueSource::EnvVariable) => "environment",
            _ => "default",
        };
        let value = if flag.is_hide_env_values_set() {
            json!("(not shown)")
        } else {
            json!(values.join(","))
        };
        flags.insert(name.to_owned(), json!({"value": value, "source": source}));
    }
    Value::Object(flags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Arg, ArgAction};

    /// Whoever may read the admin listener would read a secret; or a wrong value, and look for the
    /// mistake elsewhere.
    #[test]
    fn values_are_those_in_effect_and_secrets_are_not_shown() {
        let flag = |name: &'static str| Arg::new(name).long(name);
        let command = Command::new("serve")
            .arg(flag("model").value_delimiter(',').action(ArgAction::Append))
            .arg(flag("grace").default_value("30"))
            .arg(flag("secret").hide_env_values(true))
            .arg(flag("unset"));
        let flags = ["serve", "--model", "a,b", "--secret", "hunter2"];
        let matches = command.clone().get_matches_from(flags);
        let expected = json!({
            "model": {"value": "a,b", "source": "command line"},
            "grace": {"value": "30", "source": "default"},
            "secret": {"value": "(not shown)", "source": "command line"},
        });
        assert_eq!(effective(&command, &matches), expected);
    }
}
