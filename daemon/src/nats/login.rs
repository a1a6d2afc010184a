//! The login in a NATS URL, `nats://user:password@host` or `nats://token@host`: it is sent to the server, and is never
//! shown. Several URLs have commas between them. Pure.

/// Who connects, as a URL says it.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum UrlLogin {
    User {
        user: String,
        password: String,
    },
    /// A name without a password is a token, as in every NATS client.
    Token(String),
}

/// What `urls` say about who connects; `None` if there is no login in them.
///
/// # Errors
/// They say it in more than one way, or leave out the user. The text quotes nothing of them.
pub(super) fn find(urls: &str) -> Result<Option<UrlLogin>, &'static str> {
    let mut found = None;
    for login in each(urls).filter_map(|url| url.login) {
        let login = match login.split_once(':') {
            Some(("", _)) => return Err("the login in url has no user: use nats://USER:PASSWORD@HOST"),
            Some((user, password)) => UrlLogin::User { user: decoded(user), password: decoded(password) },
            None => UrlLogin::Token(decoded(login)),
        };
        match &found {
            Some(first) if *first != login => {
                return Err("the URLs in url have different logins, and only one is used for all of them");
            }
            _ => found = Some(login),
        }
    }
    Ok(found)
}

/// Whether a login is in them.
pub fn is_in(urls: &str) -> bool {
    each(urls).any(|url| url.login.is_some())
}

/// The same URLs without a login: to connect to, and for people and logs.
pub fn without(urls: &str) -> String {
    each(urls).map(|Url { scheme, address, .. }| format!("{scheme}{address}")).collect::<Vec<_>>().join(",")
}

/// A URL in its parts.
struct Url<'a> {
    /// With `://` behind it; empty where there is none.
    scheme: &'a str,
    login: Option<&'a str>,
    address: &'a str,
}

/// A password may have an @ in it, a host may not.
fn each(urls: &str) -> impl Iterator<Item = Url<'_>> {
    urls.split(',').map(str::trim).map(|url| {
        let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + "://".len()));
        match rest.rsplit_once('@') {
            Some((login, address)) => Url { scheme, login: Some(login).filter(|login| !login.is_empty()), address },
            None => Url { scheme, login: None, address: rest },
        }
    })
}

/// `%40` stands for `@`, and so on. What is no such code stands for itself.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|code| *first == b'%' && code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: &str, password: &str) -> UrlLogin {
        UrlLogin::User { user: user.into(), password: password.into() }
    }

    #[test]
    fn a_login_is_read_from_a_url() {
        for (urls, login) in [
            ("nats://h:4222", None),
            ("nats://@h:4222", None),
            ("nats://u:p@h:4222", Some(user("u", "p"))),
            ("u:p@h", Some(user("u", "p"))),
            ("tls://u:@h", Some(user("u", ""))),
            ("nats://u:p@ss@h", Some(user("u", "p@ss"))),
            ("nats://me%3a:100%25%2C@h", Some(user("me:", "100%,"))),
            ("nats://u:50%@h", Some(user("u", "50%"))),
            ("nats://s3cr3t@h", Some(UrlLogin::Token("s3cr3t".into()))),
            ("nats://u:p@h, nats://i:1", Some(user("u", "p"))),
            ("nats://u:p@h,nats://u:p@i", Some(user("u", "p"))),
        ] {
            assert!(find(urls) == Ok(login), "{urls}");
        }
        assert!(find("nats://u:p@h,nats://u:q@i").is_err_and(|text| text.contains("different logins")));
        assert!(find("nats://:p@h").is_err_and(|text| text.contains("no user")));
    }

    #[test]
    fn without_its_login_a_url_is_the_same() {
        assert_eq!(without("nats://u:p@ss@h:4222, h2:1"), "nats://h:4222,h2:1");
        assert_eq!(without("u:p@h:4222"), "h:4222");
        assert_eq!((is_in("nats://h, u@i"), is_in("nats://h")), (true, false));
    }
}
