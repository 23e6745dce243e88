"""TLS on both ports: who is let in, and certificates that are replaced under a running server."""

import datetime
import socket
import ssl
import subprocess

import pytest
import requests
import tritonclient.grpc as triton
import trustme
from served import PROGRAM, environment, until

# Far beyond the time in which the server looks at its files again.
STUCK = 60


class Files:
    """A certificate of an authority of its own, as files."""

    def __init__(self, folder):
        self.folder, self.authority = folder, trustme.CA()
        self.root, self.cert, self.key = folder / "root.pem", folder / "tls.crt", folder / "tls.key"
        self.authority.cert_pem.write_to_path(self.root)
        self.issue()

    def issue(self):
        """Another certificate in the place of the first."""
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        for path, parts in [(self.key, [issued.private_key_pem]), (self.cert, issued.cert_chain_pems)]:
            path.write_bytes(b"".join(part.bytes() for part in parts))

    def client(self):
        """The paths of a client's certificate and of its key."""
        issued = self.authority.issue_cert("trainer@example.org")
        cert, key = self.folder / "client.crt", self.folder / "client.key"
        cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return str(cert), str(key)

    @property
    def flags(self):
        return "--tls-cert", self.cert, "--tls-key", self.key


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


def shown(server, files, protocols=("http/1.1",)):
    """The certificate that the server shows a new connection, as DER, and what is spoken."""
    context = ssl.create_default_context(cafile=files.root)
    context.set_alpn_protocols(protocols)
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=STUCK) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        return tls.getpeercert(binary_form=True), tls.selected_alpn_protocol()


def test_both_ports_speak_tls_and_nothing_else(serve, files):
    server = serve(*files.flags)
    assert server.url.startswith("https://")
    assert requests.get(f"{server.url}/health/ready", verify=files.root).json() == {"status": "ready"}
    client = triton.InferenceServerClient(server.grpc, ssl=True, root_certificates=str(files.root))
    assert client.is_server_ready() and client.is_model_ready("tiny")
    client.close()
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{server.http}/health/ready", timeout=STUCK)
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{server.url}/health/ready", timeout=STUCK)
    assert shown(server, files, ["h2", "http/1.1"])[1] == "http/1.1"


def test_a_new_certificate_is_shown_to_who_comes_next_and_a_bad_one_to_nobody(serve, files):
    server = serve(*files.flags)
    first, _ = shown(server, files)
    with requests.Session() as session:
        get = lambda path: session.get(f"{server.url}{path}", verify=files.root)
        assert get("/health/live").ok
        files.cert.write_text("no certificate\n")
        until(lambda: 'restain_reload_failures_total{file="tls"} 1' in get("/metrics").text)
        assert shown(server, files)[0] == first
        files.issue()
        until(lambda: shown(server, files)[0] != first)
        # The connection from before goes on.
        assert get("/health/live").ok


def test_when_the_certificate_ends_is_told(serve, files):
    def told(ends):
        text = requests.get(f"{server.url}/metrics", verify=files.root).text
        return f"restain_certificate_expiry_seconds {int(ends.timestamp())}\n" in text

    def issue(days):
        ends = datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=days)
        issued = files.authority.issue_cert("127.0.0.1", "localhost", not_after=ends)
        files.key.write_bytes(issued.private_key_pem.bytes())
        files.cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        return ends

    ends = issue(30)
    server = serve(*files.flags)
    assert told(ends)
    later = issue(90)
    until(lambda: told(later))


def test_clients_show_a_certificate_of_the_right_root_or_stay_outside(serve, files, tmp_path):
    server = serve(*files.flags, "--tls-client-ca", files.root, "--probes", "127.0.0.1:0", "--address-file", tmp_path / "addresses")
    cert, key = files.client()
    assert requests.get(f"{server.url}/v1/models", verify=files.root, cert=(cert, key)).ok
    with pytest.raises((requests.ConnectionError, requests.exceptions.SSLError)):
        requests.get(f"{server.url}/v1/models", verify=files.root, timeout=STUCK)
    (tmp_path / "other").mkdir()
    with pytest.raises((requests.ConnectionError, requests.exceptions.SSLError)):
        requests.get(f"{server.url}/v1/models", verify=files.root, cert=Files(tmp_path / "other").client(), timeout=STUCK)
    known = triton.InferenceServerClient(server.grpc, ssl=True, root_certificates=str(files.root), certificate_chain=cert, private_key=key)
    assert known.is_server_live()
    known.close()
    stranger = triton.InferenceServerClient(server.grpc, ssl=True, root_certificates=str(files.root))
    with pytest.raises(Exception, match="(?i)unavailable|certificate"):
        stranger.is_server_live(client_timeout=10)
    stranger.close()
    probes = (tmp_path / "addresses").read_text().split()[2]
    assert requests.get(f"http://{probes}/health/ready").json() == {"status": "ready"}


def test_load_and_health_speak_tls_and_show_a_certificate(serve, files):
    server = serve(*files.flags, "--tls-client-ca", files.root)
    cert, key = files.client()

    def run(command, *flags):
        done = subprocess.run([PROGRAM, command, *flags], env=environment(), capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    certificates = "--ca-certs", files.root, "--client-cert", cert, "--client-key", key
    load = "load", server.url, "--requests", "3", "--tiles-per-request", "2", "--check", "--fail-on-error"
    assert run(*load, *certificates)[0] == 0
    assert run("health", f"{server.url}/health/ready", *certificates) == (0, "HTTP/1.1 200 OK\n")
    for words in [load, ("health", f"{server.url}/health/ready")]:
        # Not of a root that the system knows; and without the client's own certificate.
        status, said = run(*words)
        assert status == 1 and "UnknownIssuer" in said
        assert run(*words, *certificates[:2])[0] == 1
        status, said = run(*words, "--ca-certs", key)
        assert status in (1, 2) and f"--ca-certs {key}: no certificate in PEM" in said
    status, said = run("health", "http://127.0.0.1:1/", *certificates)
    assert status == 1 and "https://" in said


def test_who_shakes_no_hands_keeps_nobody_out(serve, files):
    server = serve(*files.flags)
    host, port = server.http.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(50)]
    broken = socket.create_connection((host, int(port)))
    broken.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert requests.get(f"{server.url}/health/ready", verify=files.root, timeout=STUCK).ok
    # What is no TLS is ended with an alert, and the connection with it.
    broken.settimeout(STUCK)
    assert b"HTTP" not in broken.recv(64)
    for held in [*silent, broken]:
        held.close()


@pytest.mark.parametrize("wrong, said", [("swap", "tls-cert"), ("foreign", "tls-cert and tls-key"), ("gone", "cannot be read")])
def test_files_that_do_not_fit_stop_the_start_and_are_named(serve, files, tmp_path, wrong, said):
    flags = files.flags
    if wrong == "swap":
        flags = "--tls-cert", files.key, "--tls-key", files.cert
    if wrong == "foreign":
        (tmp_path / "other").mkdir()
        flags = "--tls-cert", files.cert, "--tls-key", Files(tmp_path / "other").key
    if wrong == "gone":
        files.key.unlink()
    with pytest.raises(RuntimeError, match=said):
        serve(*flags)
