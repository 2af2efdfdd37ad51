"""Access to the server: clients that may ask, and the refusals of others."""

from pathlib import Path

import pytest
from yarl import URL

from keisei_ray.web.server import Access
from tests.helpers.report_runs import write_run
from tests.helpers.web_clients import Client, with_client


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return write_run(tmp_path / "runs" / "first", updates=3)


def test_pages_load_nothing_from_elsewhere_and_run_no_script_inside_them(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        for path in ("/", "/static/app.js", "/shared/theme.css", "/api/runs"):
            answer = await client.get(path)
            assert answer.status == 200, path
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    with_client([run_dir], talk)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_name_that_is_not_this_machines_is_refused(run_dir: Path, host: str) -> None:
    async def talk(client: Client) -> None:
        answer = await client.get("/api/runs", headers={"Host": host})
        assert answer.status in (400, 403)

    with_client([run_dir], talk)


def test_a_tunnel_may_have_another_port(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        answer = await client.get("/api/runs", headers={"Host": "localhost:9999"})
        assert answer.status == 200

    with_client([run_dir], talk)


def test_the_token_is_given_once_in_the_address_and_then_in_a_cookie(run_dir: Path) -> None:
    async def talk(client: Client) -> None:
        for path in ("/", "/api/runs", "/static/app.js", "/?token=wrong", "/api/runs?token=secret"):
            answer = await client.get(path)
            assert answer.status == 403, path
            assert "token" in await answer.text()
        answer = await client.get("/?token=secret")
        assert answer.status == 200
        assert answer.url.query_string == ""
        assert (await client.get("/api/runs")).status == 200

    with_client([run_dir], talk, Access(frozenset(), "secret"))


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static//etc/passwd",
        "/shared/../page.py",
        "/api/nothing",
    ],
)
def test_an_address_does_not_lead_out_of_the_pages(run_dir: Path, path: str) -> None:
    async def talk(client: Client) -> None:
        answer = await client.get(URL(path, encoded=True))
        assert answer.status in (403, 404)

    with_client([run_dir], talk)
