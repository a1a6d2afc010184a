//! `config`: shows the contexts, selects one, and changes the file that contains them.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::file::{self, ContextError};
use super::layers::Chosen;
use super::model::{Context, Contexts, Nats, PATHS};
use crate::arguments::config::ConfigCommand;
use crate::arguments::operate::Form;
use crate::console::{Console, Failure};
use crate::output::{json, table, yaml};

/// The context in use: `named`, otherwise the file's current one, if any.
///
/// # Errors
/// There is none of that name, or the file cannot be read.
pub fn chosen(named: Option<&str>, variables: &[(String, String)]) -> Result<Option<Chosen>, ContextError> {
    let file = match file::path(variables) {
        Err(ContextError::NoPlace) if named.is_none() => return Ok(None),
        file => file?,
    };
    let contexts = match file::load(&file) {
        // Nobody named a context or a file: another user's home is no reason to fail.
        Err(error) if named.is_none() && error.is_denied() && !file::is_named(variables) => return Ok(None),
        contexts => contexts?,
    };
    let Some(name) = named.map(str::to_owned).or_else(|| contexts.current.clone()) else { return Ok(None) };
    let missing = |cause| ContextError::Missing { file: file.clone(), cause };
    let nats = contexts.get(&name).map_err(missing)?.nats.clone();
    Ok(Some(Chosen { name, nats, named: named.is_some() }))
}

/// Runs a command of `config`. `flags` are those of the connection.
///
/// # Errors
/// The file of contexts cannot be read or written, or a context does not exist.
pub fn run(
    command: ConfigCommand,
    named: Option<&str>,
    flags: Nats,
    variables: &[(String, String)],
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let path = file::path(variables)?;
    let mut contexts = file::load(&path)?;
    let said = match command {
        ConfigCommand::GetContexts { output } => return Ok(console.print(&list(&contexts, output))?),
        ConfigCommand::CurrentContext => {
            let current = named.map(str::to_owned).or(contexts.current).ok_or(ContextError::NoCurrent)?;
            return Ok(console.print(&format!("{current}\n"))?);
        }
        ConfigCommand::UseContext { name } => {
            contexts.get(&name).map_err(|cause| ContextError::Missing { file: path.clone(), cause })?;
            contexts.current = Some(name.clone());
            format!("Switched to context {name:?}.")
        }
        ConfigCommand::SetContext { name } => set(&mut contexts, &name, flags)?,
        ConfigCommand::DeleteContext { name } => delete(&mut contexts, &name, &path)?,
    };
    file::save(&path, &contexts)?;
    console.print(&format!("{said}\n"))?;
    let url = ["BACKSTAY_NATS_URL", "BACKSTAY_NATS__URL"];
    let overriding = url.into_iter().find(|name| variables.iter().any(|(is, value)| is == name && !value.is_empty()));
    if let (Some(variable), true) = (overriding, contexts.current.is_some()) {
        console.remark(&format!(
            "Note: {variable} is set and takes precedence over the current context; `--context NAME` overrides it"
        ))?;
    }
    Ok(())
}

/// Sets what is given, and leaves the rest of an existing context unchanged.
fn set(contexts: &mut Contexts, name: &str, flags: Nats) -> Result<String, ContextError> {
    if flags.is_empty() {
        return Err(ContextError::Nothing);
    }
    let before = contexts.contexts.get(name).cloned();
    let known = before.is_some();
    let below = Chosen { name: name.to_owned(), nats: before.unwrap_or_default().nats, named: false };
    let flags = flags.into_iter().map(|(key, value)| (absolute(&key, &value).unwrap_or(value), key));
    let flags = flags.map(|(value, key)| (key, value)).collect();
    let context = Context { nats: super::layers::merged(Some(&below), Nats::new(), flags) };
    context.check().map_err(|cause| {
        let cause = cause.to_string().trim_start_matches("[nats] ").to_owned();
        ContextError::Contradiction { name: name.to_owned(), cause }
    })?;
    contexts.contexts.insert(name.to_owned(), context);
    Ok(match (known, contexts.current.as_deref() == Some(name)) {
        (true, _) => format!("Context {name:?} modified."),
        (false, true) => format!("Context {name:?} created."),
        (false, false) => {
            format!("Context {name:?} created. To switch to it, run: backstayctl config use-context {name}")
        }
    })
}

/// Makes a path absolute, so that the file is found wherever the command is run.
fn absolute(key: &str, value: &str) -> Option<String> {
    let path = PATHS.contains(&key).then(|| std::path::absolute(value).ok())??;
    Some(path.to_string_lossy().into_owned())
}

fn delete(contexts: &mut Contexts, name: &str, path: &Path) -> Result<String, ContextError> {
    let file = PathBuf::from(path);
    contexts.get(name).map_err(|cause| ContextError::Missing { file, cause })?;
    contexts.contexts.remove(name);
    let was_current = contexts.current.take_if(|current| current == name).is_some();
    let no_more = if was_current { " It was the current context; none is set now." } else { "" };
    Ok(format!("Deleted context {name:?} from {}.{no_more}", path.display()))
}

fn list(contexts: &Contexts, form: Form) -> String {
    let is_current = |name: &String| contexts.current.as_ref() == Some(name);
    let value = |(name, context): (&String, &Context)| {
        json!({
            "name": name,
            "current": is_current(name),
            "nats": context.shown_url(),
            "login": context.shown_login(),
        })
    };
    let values = || contexts.contexts.iter().map(value).collect::<Vec<_>>();
    match form {
        Form::Table | Form::Wide => {
            let row = |(name, context): (&String, &Context)| {
                let mark = if is_current(name) { "*" } else { "" };
                vec![mark.to_owned(), name.clone(), context.shown_url(), context.shown_login()]
            };
            table::plain(&["CURRENT", "NAME", "NATS", "LOGIN"], contexts.contexts.iter().map(row))
        }
        Form::Yaml => yaml::document(&Value::Array(values())),
        Form::Json => json::stream(&values()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use crate::testing::capture;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a folder"))
        }

        fn variables(&self) -> Vec<(String, String)> {
            vec![(file::VARIABLE.to_owned(), self.0.path().join("config.toml").display().to_string())]
        }

        async fn config(&self, line: &str) -> Result<String, String> {
            let words = format!("backstayctl config {line}");
            let Arguments { connection, context, command } =
                Arguments::read(words.split_whitespace()).expect("a command");
            let Command::Config { command } = command else { panic!("config") };
            let variables = self.variables();
            let flags = connection.settings();
            let done = capture(async |console| run(command, context.as_deref(), flags, &variables, console)).await;
            let folder = self.0.path().display().to_string();
            done.map(|(out, err)| format!("{out}{err}").replace(&folder, "DIR"))
                .map_err(|error| error.replace(&folder, "DIR"))
        }
    }

    #[tokio::test]
    async fn contexts_are_made_chosen_shown_and_deleted() {
        let place = Place::new();
        let mut told = String::new();
        for line in [
            "get-contexts",
            "current-context",
            "set-context prod --nats nats://ops:hunter2@nats.example:4222",
            "set-context staging --nats nats://10.0.0.1:4222 --nats-user ops --nats-password-file /etc/backstay/password",
            "set-context staging --nats-credentials /etc/backstay/ops.creds",
            "set-context staging --nats-cert /c",
            "set-context empty",
            "use-context prod",
            "use-context prd",
            "current-context",
            "get-contexts",
            "get-contexts -o json",
            "delete-context prod",
            "delete-context prod",
            "get-contexts",
            "--context staging current-context",
        ] {
            let said = place.config(line).await.unwrap_or_else(|error| format!("Error: {error}\n"));
            told.push_str(&format!("$ backstayctl config {line}\n{said}"));
        }
        assert!(!told.replace("ops:hunter2@", "").contains("hunter2"), "{told}");
        insta::assert_snapshot!("contexts", told);
    }

    #[tokio::test]
    async fn files_are_found_from_everywhere() {
        let place = Place::new();
        place.config("set-context a --nats nats://h --nats-ca ca.crt").await.expect("set");
        let found = chosen(Some("a"), &place.variables()).expect("read").expect("there");
        let here = std::path::absolute("ca.crt").expect("a folder").display().to_string();
        assert_eq!((found.nats["ca"].as_str(), found.named), (here.as_str(), true));
        assert!(chosen(None, &place.variables()).expect("read").is_none(), "none is current");
        place.config("use-context a").await.expect("chosen");
        assert!(!chosen(None, &place.variables()).expect("read").expect("there").named);
        let error = chosen(Some("b"), &place.variables()).expect_err("missing").to_string();
        assert!(error.starts_with("context \"b\" does not exist; defined contexts: a"), "{error}");
        assert!(chosen(None, &[]).expect("no place").is_none());
    }

    #[tokio::test]
    async fn a_variable_that_is_in_the_way_is_told() {
        let place = Place::new();
        place.config("set-context a --nats nats://h").await.expect("set");
        let variables = [place.variables(), vec![("BACKSTAY_NATS_URL".into(), "nats://elsewhere".into())]].concat();
        let command = ConfigCommand::UseContext { name: "a".into() };
        let done = capture(async |console| run(command, None, Nats::new(), &variables, console)).await;
        let (out, err) = done.expect("done");
        assert_eq!(out, "Switched to context \"a\".\n");
        assert!(err.starts_with("Note: BACKSTAY_NATS_URL is set and takes precedence"), "{err}");
    }
}
