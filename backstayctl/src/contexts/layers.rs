//! Which of a connection's settings take precedence: flags, then the environment, then the context. A context that is
//! named on the command line counts as a flag, so it takes precedence over the environment. Pure.

use backstay_daemon::nats::login;

use super::model::Nats;

/// The keys for authentication: one layer's replace another's as a whole.
const LOGIN: [&str; 5] = ["user", "password", "password_file", "credentials", "nkey"];
/// Keys of which each is a way to authenticate by itself.
const WHO: [&str; 3] = ["user", "credentials", "nkey"];

/// The context in use.
#[derive(Debug, Clone, Default)]
pub struct Chosen {
    pub name: String,
    pub nats: Nats,
    /// Whether `--context` named it; otherwise it is the file's current one.
    pub named: bool,
}

/// The settings after all layers. Without a context they are those of the environment and the flags, including
/// contradictions.
pub fn merged(context: Option<&Chosen>, environment: Nats, flags: Nats) -> Nats {
    let plain = |mut lower: Nats, upper: Nats| {
        lower.extend(upper);
        lower
    };
    match context {
        None => plain(environment, flags),
        Some(context) if context.named => over(over(environment, context.nats.clone()), flags),
        Some(context) => over(context.nats.clone(), plain(environment, flags)),
    }
}

/// `upper` over `lower`, without the parts of `lower` that would contradict it.
fn over(mut lower: Nats, upper: Nats) -> Nats {
    let has = |keys: &[&str]| keys.iter().any(|key| upper.contains_key(*key));
    let mut gone: Vec<&str> = Vec::new();
    if has(&WHO) || upper.get("url").is_some_and(|urls| login::is_in(urls)) {
        gone.extend(LOGIN);
        lower.get_mut("url").into_iter().for_each(|urls| *urls = login::without(urls));
    }
    if has(&["password", "password_file"]) {
        gone.extend(["password", "password_file"]);
    }
    if has(&["cert", "key"]) {
        gone.extend(["cert", "key"]);
    }
    // A password that came by itself goes with the user of the other layer.
    let keeps_password =
        upper.contains_key("user") && !has(&["password", "password_file"]) && !lower.contains_key("user");
    lower.retain(|key, _| !gone.contains(&key.as_str()) || keeps_password && key.starts_with("password"));
    lower.extend(upper);
    lower
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nats(text: &str) -> Nats {
        let pairs = text.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn text(nats: &Nats) -> String {
        nats.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flags_beat_the_environment_and_that_the_context() {
        for (context, environment, flags, counts) in [
            ("", "url=e", "url=f", "url=f"),
            ("url=c", "", "", "url=c"),
            ("url=c", "url=e", "", "url=e"),
            ("url=c ca=c", "", "url=f", "ca=c url=f"),
            // Who one is comes from one layer alone.
            ("url=c user=u password_file=p", "", "nkey=k", "nkey=k url=c"),
            ("credentials=x", "user=u password=p", "", "password=p user=u"),
            ("user=u password_file=f", "password=p", "", "password=p user=u"),
            ("cert=c key=k", "cert=x", "", "cert=x"),
            ("url=nats://u:p@c", "", "user=f", "url=nats://c user=f"),
            ("url=nats://u:p@c", "", "ca=f", "ca=f url=nats://u:p@c"),
            ("url=c user=u password_file=p", "", "url=nats://u:p@f", "url=nats://u:p@f"),
            // What contradicts itself in one place is not made to fit.
            ("", "user=u", "nkey=k", "nkey=k user=u"),
        ] {
            let chosen = Chosen { name: "x".into(), nats: nats(context), named: false };
            let chosen = (!context.is_empty()).then_some(chosen);
            let found = merged(chosen.as_ref(), nats(environment), nats(flags));
            assert_eq!(text(&found), counts, "{context} | {environment} | {flags}");
        }
    }

    #[test]
    fn a_context_that_is_named_is_a_flag() {
        for (environment, context, flags, counts) in [
            ("url=e", "url=c", "", "url=c"),
            ("url=e", "url=c", "url=f", "url=f"),
            ("url=e credentials=e", "url=c user=u", "", "url=c user=u"),
            ("url=e password=p", "url=c user=u", "", "password=p url=c user=u"),
            ("user=e password=p", "url=c user=u", "", "url=c user=u"),
            ("user=e password=p", "url=c", "", "password=p url=c user=e"),
        ] {
            let chosen = Chosen { name: "x".into(), nats: nats(context), named: true };
            let found = merged(Some(&chosen), nats(environment), nats(flags));
            assert_eq!(text(&found), counts, "{environment} | {context} | {flags}");
        }
    }
}
