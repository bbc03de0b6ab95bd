"""What a page of somebody else's, open in the reader's browser, can do with the workshop: nothing."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
import websocket
from containers import Workshop, soon

FOREIGN = (
    "evil.example",
    "evil.example:{port}",
    "evil.localhost",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "localhost.",
    "0.0.0.0",
    "10.0.0.1:{port}",
    "2130706433",
    "%2Ftmp",
    "[::2]",
)
PATHS = (
    "/",
    "/api",
    "/api/contents",
    "/api/kernels",
    "/favicon.ico",
    "/files/notebooks/workshop.ipynb",
    "/lab",
    "/lab/api/settings",
    "/login",
    "/metrics",
    "/no/such/page/",
    "/static/favicons/favicon.ico",
)
NAMES = "box, Workshop.example.org 192.168.1.5"


@pytest.fixture(scope="module")
def url(workshop: Workshop) -> Iterator[str]:
    """Start the container under further names and yield the address that it printed."""
    yield workshop.up(JUPYTER_HOSTNAMES=NAMES)
    workshop.compose("down", "--timeout", "5")


def ask(url: str, path: str, host: str, method: str = "GET") -> requests.Response:
    """Ask for a path under a name, with the token, as a page does whose name leads to this machine."""
    address = urlsplit(url)
    return requests.request(
        method,
        f"http://{address.netloc}{path}?{address.query}",
        headers={"Host": host.format(port=address.port)},
        allow_redirects=False,
        timeout=30,
    )


@pytest.mark.parametrize("host", FOREIGN)
def test_a_foreign_host_is_refused_whatever_it_asks_for(url, host):
    for path in PATHS:
        answer = ask(url, path, host)
        assert answer.status_code == 403, path
        assert answer.text.count("\n") == 1
        assert "JUPYTER_HOSTNAMES" in answer.text
        assert "Set-Cookie" not in answer.headers
    for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert ask(url, "/api/kernels", host, method).status_code == 403, method


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:{port}", "LOCALHOST:{port}"])
def test_this_machine_is_answered_by_all_of_its_names(url, host):
    assert ask(url, "/api/contents", host).ok


@pytest.mark.parametrize("host", ["box", "workshop.example.org:80", "BOX:{port}", "192.168.1.5"])
def test_names_of_ones_own_are_answered(url, host):
    assert ask(url, "/api/contents", host).ok


def test_a_request_names_one_host_in_its_header(url):
    address = urlsplit(url)
    for lines in (
        "GET http://localhost/api HTTP/1.1\r\nHost: evil.example",
        "GET /api HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
        "GET /api HTTP/1.1\r\nHost: localhost, evil.example",
        "GET /api HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost",
        "GET /api HTTP/1.1",
    ):
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            connection.sendall(f"{lines}\r\nConnection: close\r\n\r\n".encode())
            status = connection.makefile("rb").readline()
        assert status.split()[1] in (b"400", b"403"), lines


@pytest.mark.parametrize("names", ["http://box", "box:8888", "*", "box/lab", "fe80::1"])
def test_what_is_no_host_name_is_refused_with_one_sentence(workshop, names):
    done = workshop.run("lab.sh", JUPYTER_HOSTNAMES=f"localhost,{names}")
    assert done.returncode == 1
    (sentence,) = [line for line in done.stderr.splitlines() if "JUPYTER_HOSTNAMES" in line]
    assert f"'{names}'" in sentence


@pytest.fixture
def reader(url: str) -> requests.Session:
    """Return a browser that has opened the workshop, and sends its cookies wherever a page tells it to."""
    session = requests.Session()
    session.get(url, timeout=30).raise_for_status()
    return session


def handshake(reader: requests.Session, url: str, path: str, **options: object) -> int:
    """Return the status with which a websocket of a page in the reader's browser opens or is refused."""
    cookies = "; ".join(f"{name}={value}" for name, value in reader.cookies.items())
    address = f"ws://{urlsplit(url).netloc}/{path}"
    try:
        websocket.create_connection(address, cookie=cookies, timeout=30, **options).close()
    except websocket.WebSocketBadStatusException as refused:
        return refused.status_code
    return 101


def test_websockets_open_for_the_workshops_own_pages_only(workshop, url, reader):
    own = f"http://{urlsplit(url).netloc}"
    kernel = workshop.api(url, "POST", "kernels", json={"name": "python3"}).json()["id"]
    terminal = workshop.api(url, "POST", "terminals").json()["name"]
    for path in (f"api/kernels/{kernel}/channels", f"terminals/websocket/{terminal}", "api/events/subscribe"):
        assert handshake(reader, url, path, origin=own) == 101
        for origin in ("http://evil.example", "null", "http://localhost:1", own + "0"):
            assert handshake(reader, url, path, origin=origin) == 403, origin
        assert handshake(reader, url, path, origin="http://evil.example", host="evil.example") == 403
    workshop.api(url, "DELETE", f"kernels/{kernel}")
    workshop.api(url, "DELETE", f"terminals/{terminal}")


def test_cookies_alone_change_nothing(url, reader):
    root = f"http://{urlsplit(url).netloc}"
    assert reader.get(f"{root}/api/contents", timeout=30).ok
    for method, path in (
        ("POST", "kernels"),
        ("POST", "terminals"),
        ("POST", "shutdown"),
        ("PUT", "contents/work/x"),
        ("DELETE", "contents/notebooks/workshop.ipynb"),
    ):
        assert reader.request(method, f"{root}/api/{path}", json={}, timeout=30).status_code == 403, path


def test_foreign_pages_read_nothing(url, reader):
    root, foreign = f"http://{urlsplit(url).netloc}", {"Origin": "http://evil.example"}
    for path in ("api/contents", "api/me", "files/notebooks/workshop.ipynb"):
        answer = reader.get(f"{root}/{path}", headers=foreign, timeout=30)
        assert not answer.ok
        assert answer.headers.get("Access-Control-Allow-Origin", "") == ""
    asked = {**foreign, "Access-Control-Request-Method": "PUT"}
    answer = reader.options(f"{root}/api/contents", headers=asked, timeout=30)
    assert answer.headers.get("Access-Control-Allow-Origin", "") == ""


def test_foreign_pages_frame_nothing_and_a_file_of_html_runs_apart(workshop, url):
    assert "frame-ancestors 'self'" in requests.get(url, timeout=30).headers["Content-Security-Policy"]
    (workshop.folder / "work" / "page.html").write_text("<script>alert(1)</script>")
    page = ask(url, "/files/work/page.html", "localhost")
    assert page.ok
    assert "sandbox allow-scripts" in page.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in page.headers["Content-Security-Policy"]
    assert page.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("up", ["..", "%2e%2e", "..%2f..", "%2e%2e/%2e%2e", "work/../.."])
def test_paths_end_at_the_workshop(url, up):
    address = urlsplit(url)
    for kind in ("api/contents", "files", "nbconvert/html", "static", "lab/static"):
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            line = f"GET /{kind}/{up}/etc/passwd?{address.query} HTTP/1.1"
            connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = connection.makefile("rb").read()
        assert b"root:x:0:0" not in answer, kind


def test_what_is_deleted_is_gone_and_leaves_no_hidden_folder(workshop, url):
    for folder in ("work", "notebooks"):
        workshop.api(url, "PUT", f"contents/{folder}/old", json={"type": "directory"}).raise_for_status()
        note = {"type": "file", "format": "text", "content": "x"}
        workshop.api(url, "PUT", f"contents/{folder}/old/note", json=note).raise_for_status()
        workshop.api(url, "DELETE", f"contents/{folder}/old").raise_for_status()
        left = {path.name for path in (workshop.folder / folder).iterdir()}
        assert "old" not in left
        assert not [name for name in left if "rash" in name]


def test_the_token_is_in_the_address_and_nowhere_else(workshop, url):
    token = url.partition("token=")[2]
    for path in ("api/contents/no such", "no such/", "lab/api/settings/none", "api/terminals/none"):
        for method in ("GET", "POST"):
            ask(url, f"/{path}", "localhost", method)
    workshop.api(url, "PUT", f"contents/x?token={token}", data="{broken")
    assert "[secret]" in workshop.log()
    assert workshop.log().count(token) == 1

    environment = workshop.folder / "work" / "environment"
    code = "import pathlib, os; pathlib.Path('/work/environment').write_text(repr(os.environ))"
    workshop.execute(url, code, environment)
    assert soon(lambda: "PATH" in environment.read_text())
    assert token not in environment.read_text()
    shown = workshop.inside("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
    assert "jupyter-lab" in shown
    assert token not in shown
    assert token not in workshop.inside("sh", "-c", "env").stdout
