//! HTTP as somebody outside the container speaks it.

use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// `name=value` of the cookie that it sets.
    pub cookie: Option<String>,
}

/// Something to send with a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request<'a> {
    /// Headers, by name.
    pub headers: &'a [(&'a str, &'a str)],
    /// Media type and bytes of a body; a request that has one is a POST.
    pub body: Option<(&'a str, &'a [u8])>,
}

/// Sends one request; nothing when nobody listens or the answer does not come.
pub fn send(url: &str, request: Request<'_>) -> Option<Answer> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(10)))
        .build()
        .into();
    let answer = match request.body {
        Some((kind, bytes)) => {
            let mut builder = agent.post(url).header("Content-Type", kind);
            for (name, value) in request.headers {
                builder = builder.header(*name, *value);
            }
            builder.send(bytes)
        }
        None => {
            let mut builder = agent.get(url);
            for (name, value) in request.headers {
                builder = builder.header(*name, *value);
            }
            builder.call()
        }
    };
    let mut answer = answer.ok()?;
    let cookie = answer
        .headers()
        .get("set-cookie")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::to_owned);
    Some(Answer { status: answer.status().as_u16(), body: answer.body_mut().read_to_string().ok()?, cookie })
}

/// Asks for a page every now and then until somebody answers.
pub fn wait_for(url: &str) -> Answer {
    for _ in 0..120 {
        if let Some(answer) = send(url, Request::default()) {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("nobody answers at {url}");
}
