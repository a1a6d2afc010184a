//! What is probably wrong with a configuration, and what to do about it, as far as answers and causes show it.

use aws_sdk_s3::config::http::HttpResponse;

use super::text::one_line;

/// Advice for a cause from the operating system or from TLS.
pub(super) fn of_cause(cause: &str) -> &'static str {
    let says = |word: &str| cause.contains(word);
    if says("InvalidContentType") {
        return " (if this endpoint does not use TLS, its URL must begin with http://)";
    }
    if says("UnknownIssuer") {
        return " (the endpoint's certificate was not signed by a trusted CA: set the CA with `ca`, --s3-ca or \
            AWS_CA_BUNDLE)";
    }
    if says("Connection refused") {
        return " (nothing is listening there: check the endpoint's host and port, and that the store is running)";
    }
    if says("failed to lookup address") {
        return " (check the host name of the endpoint)";
    }
    ""
}

/// Whether an answer is HTML: from a console, a login page or a proxy, but not from S3. An answer without a body, as
/// to HEAD, is not, whatever its header says, because a gateway may set it on any answer.
pub(super) fn is_web_page(answer: &HttpResponse) -> bool {
    let html = answer.headers().get("content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    let body = answer.body().bytes().unwrap_or_default();
    let begin = String::from_utf8_lossy(&body[..body.len().min(200)]).trim_start().to_ascii_lowercase();
    begin.starts_with("<!doctype html")
        || begin.starts_with("<html")
        || (html && !begin.is_empty() && !begin.starts_with("<?xml"))
}

pub(super) fn web_page(status: u16) -> String {
    match status {
        408 | 429 | 500.. => {
            format!("HTTP {status}: a proxy or gateway in front of the store answered with a web page")
        }
        _ => format!(
            "HTTP {status}: a web page answered, not S3: the endpoint may be a web console, a login page or a proxy. \
             It must be the address of the S3 API"
        ),
    }
}

/// Where the bucket is, if an answer says that it is elsewhere; with what to do.
pub(super) fn elsewhere(answer: &HttpResponse, code: &str) -> Option<String> {
    const CODES: [&str; 5] = [
        "PermanentRedirect",
        "TemporaryRedirect",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "IncorrectEndpoint",
    ];
    let status = answer.status().as_u16();
    if !(CODES.contains(&code) || matches!(status, 301 | 307 | 308)) {
        return None;
    }
    let body = String::from_utf8_lossy(answer.body().bytes().unwrap_or_default()).into_owned();
    let region = answer.headers().get("x-amz-bucket-region").map(str::to_owned).or_else(|| element(&body, "Region"));
    let endpoint = element(&body, "Endpoint");
    let said = match (region, endpoint) {
        (Some(region), Some(endpoint)) => format!(
            "its region is {region} and its endpoint {endpoint}: set them with `region` and `endpoint`, --region and \
             --endpoint, or AWS_REGION and AWS_ENDPOINT_URL"
        ),
        (Some(region), None) => format!("its region is {region}: set it with `region`, --region or AWS_REGION"),
        (None, Some(endpoint)) => {
            format!("its endpoint is {endpoint}: set it with `endpoint`, --endpoint or AWS_ENDPOINT_URL")
        }
        (None, None) => return None,
    };
    Some(format!(" ({})", one_line(&said)))
}

/// The text of the first element of this name.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, behind) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = behind.split_once("</")?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::primitives::SdkBody;

    use super::*;

    fn answer(status: u16, kind: &'static str, body: &'static str) -> HttpResponse {
        let mut answer = HttpResponse::new(status.try_into().expect("a status"), SdkBody::from(body));
        answer.headers_mut().insert("content-type", kind);
        answer
    }

    #[test]
    fn a_web_page_is_known_by_its_kind_or_its_beginning() {
        for (kind, body) in [
            ("text/html; charset=utf-8", "Sign in"),
            ("application/octet-stream", "\n <!DOCTYPE html><html></html>"),
            ("", "<html><body>502</body></html>"),
        ] {
            assert!(is_web_page(&answer(200, kind, body)), "{kind} {body}");
        }
        for (kind, body) in [
            ("application/xml", "<Error><Code>X</Code></Error>"),
            ("text/html", "<?xml version=\"1.0\"?><Error/>"),
            ("", ""),
            ("text/html", ""),
            ("text/html", "\r\n"),
            ("text/plain", "no"),
        ] {
            assert!(!is_web_page(&answer(200, kind, body)), "{kind} {body}");
        }
    }

    #[test]
    fn where_the_bucket_is_is_said_with_what_to_do() {
        let body = "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.eu-west-1.amazonaws.com</Endpoint></Error>";
        let text = elsewhere(&answer(301, "application/xml", body), "PermanentRedirect").expect("it says where");
        assert!(text.contains("endpoint is b.s3.eu-west-1.amazonaws.com: set it with"), "{text}");
        let mut head = answer(301, "application/xml", "");
        head.headers_mut().insert("x-amz-bucket-region", "eu-west-1");
        let text = elsewhere(&head, "").expect("it says where");
        assert!(text.contains("region is eu-west-1: set it with `region`"), "{text}");
        let body = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-north-1</Region></Error>";
        let text = elsewhere(&answer(400, "application/xml", body), "AuthorizationHeaderMalformed").expect("where");
        assert!(text.contains("eu-north-1"), "{text}");
        assert_eq!(elsewhere(&answer(404, "", body), "NoSuchKey"), None);
        assert_eq!(elsewhere(&answer(301, "", ""), ""), None);
    }
}
