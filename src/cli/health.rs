//! `restain health`: asks a running server once whether it is ready, for health checks of
//! containers, which have neither a shell nor curl.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hyper::Uri;
use restain_load::{TlsArgs, server_name};
use restain_options::Span;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

/// More than any head of an answer whose first line is all that is read.
const MOST_READ: u64 = 4096;

#[derive(clap::Args)]
pub(crate) struct HealthArgs {
    /// The URL to ask
    #[arg(default_value = "http://127.0.0.1:8080/health/ready", value_name = "URL")]
    url: Uri,
    /// Fail if there is no answer within this time
    #[arg(long, help_heading = "Health", value_name = "DURATION", default_value = "2s")]
    timeout: Span,
    #[command(flatten)]
    tls: TlsArgs,
}

/// Prints the status line of a server that is ready.
///
/// # Errors
/// As [`ask`].
pub(crate) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    println!("{}", ask(args)?);
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, thiserror::Error)]
enum HealthError {
    #[error("`{0}`: not a URL of HTTP, for example http://127.0.0.1:8080/health/ready")]
    NotHttp(Uri),
    #[error("{0}")]
    Tls(String),
    #[error("no answer from {url}")]
    Silent { url: Uri, source: io::Error },
    #[error("{url} answered `{status}`")]
    Unwell { url: Uri, status: String },
}

/// Returns the status line of an answer with status 200.
///
/// # Errors
/// When there is no answer in time, or one with another status.
fn ask(args: &HealthArgs) -> Result<String, HealthError> {
    let url = &args.url;
    let (port, tls, host) = match (url.scheme_str(), url.host()) {
        (Some("http"), Some(host)) => {
            args.tls.check_unused().map_err(HealthError::Tls)?;
            (80, None, host)
        }
        (Some("https"), Some(host)) => {
            (443, Some(args.tls.config().map_err(HealthError::Tls)?), host)
        }
        _ => return Err(HealthError::NotHttp(url.clone())),
    };
    let place = (host.trim_matches(['[', ']']), url.port_u16().unwrap_or(port));
    let end = Instant::now() + args.timeout.0;
    let answered = Timed::connect(place, end).and_then(|stream| match tls {
        None => status_line(stream, url),
        Some(config) => {
            let connection = ClientConnection::new(config, server_name(place.0)?);
            let connection = connection.map_err(io::Error::other)?;
            status_line(StreamOwned::new(connection, stream), url)
        }
    });
    let status = answered.map_err(|source| HealthError::Silent { url: url.clone(), source })?;
    match status.split(' ').nth(1) {
        Some("200") => Ok(status),
        _ => Err(HealthError::Unwell { url: url.clone(), status }),
    }
}

fn status_line(mut stream: impl Read + Write, url: &Uri) -> io::Result<String> {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut read = Vec::new();
    while !read.contains(&b'\n') && (read.len() as u64) < MOST_READ {
        let mut piece = [0; 256];
        match stream.read(&mut piece)? {
            0 => break,
            size => read.extend_from_slice(&piece[..size]),
        }
    }
    let line = read.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).trim_end().to_owned())
}

/// A connection that ends at a time. The timeout is set anew for every piece: a server that sends a
/// byte a second is not well either.
struct Timed {
    stream: TcpStream,
    end: Instant,
}

impl Timed {
    /// Connects to the first of the addresses that takes the connection.
    fn connect(place: (&str, u16), end: Instant) -> io::Result<Self> {
        let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in place.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(end)?) {
                Ok(stream) => return Ok(Self { stream, end }),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Read for Timed {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.end)?))?;
        self.stream.read(piece)
    }
}

impl Write for Timed {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.end)?))?;
        self.stream.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A timeout of zero would mean none at all.
fn left(end: Instant) -> io::Result<Duration> {
    end.checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| io::ErrorKind::TimedOut.into())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    /// Returns what `ask` returns of a server that sends `answer` to one request, and the request's
    /// first line.
    fn asked(answer: &'static str, timeout: &str) -> (Result<String, HealthError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url =
            format!("http://{}/health/ready", listener.local_addr().unwrap()).parse().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = BufReader::new(stream.try_clone().unwrap());
            let mut first = String::new();
            request.read_line(&mut first).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            // Until the caller hangs up: an answer without an end ends at the caller's timeout.
            let _ = io::copy(&mut request, &mut io::sink());
            first
        });
        let timeout = timeout.parse().unwrap();
        let result = ask(&HealthArgs { url, timeout, tls: TlsArgs::default() });
        (result, server.join().unwrap())
    }

    #[test]
    fn only_an_answer_of_200_is_well() {
        let (well, first) = asked("HTTP/1.1 200 OK\r\n\r\n", "1m");
        assert_eq!(
            (well.unwrap().as_str(), first.as_str()),
            ("HTTP/1.1 200 OK", "GET /health/ready HTTP/1.1\r\n")
        );
        for answer in
            ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 2000\r\n", "200\r\n", "\r\n"]
        {
            assert!(matches!(asked(answer, "1m").0, Err(HealthError::Unwell { .. })), "{answer}");
        }
    }

    #[test]
    fn a_missing_or_endless_answer_ends_at_the_timeout() {
        for answer in ["", "HTTP/1.1 200"] {
            assert!(matches!(asked(answer, "50ms").0, Err(HealthError::Silent { .. })), "{answer}");
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let args = HealthArgs {
            url: format!("http://{free}").parse().unwrap(),
            timeout: "1m".parse().unwrap(),
            tls: TlsArgs::default(),
        };
        assert!(matches!(ask(&args), Err(HealthError::Silent { .. })));
    }

    #[test]
    fn a_url_that_is_not_http_is_rejected() {
        for url in ["ftp://127.0.0.1/", "127.0.0.1:80", "/health/ready"] {
            let (url, timeout) = (url.parse().unwrap(), "1m".parse().unwrap());
            let args = HealthArgs { url, timeout, tls: TlsArgs::default() };
            assert!(matches!(ask(&args), Err(HealthError::NotHttp(_))), "{}", args.url);
        }
    }
}
