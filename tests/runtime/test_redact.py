"""No credential of a URL, a header or the environment is left in a text, and the rest of it stays."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.redact import has_login, redact, redact_url, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:password@host:9091", "http://***@host:9091"),
        ("at 'http://u:p@h/a', again", "at 'http://***@h/a', again"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("http://u:p/a?s#s@h/x", "http://***@h/x"),
        ("http://u:p@s/s@h/x?sig=a", "http://***@h/x?sig=***"),
        ("http://u:p'w@h/x", "http://***@h/x"),
        ("'http://user:passwor...' is cut", "'http://***...' is cut"),
        ("http://a:80,http://u:p@b:80", "http://a:80,http://***@b:80"),
        ("zip://x::http://u:p@h/q", "zip://x::http://***@h/q"),
        ("user:pw@host:9091 is no URL", "***@host:9091 is no URL"),
        ("https://h/p?X-Amz-Signature=abc&token=d).", "https://h/p?X-Amz-Signature=***&token=***)."),
        ("https://h/p?sv=1&sig=a%2Fb%3D#x", "https://h/p?sv=***&sig=***"),
        ("https://h/p?c2VjcmV0==", "https://h/p?***"),
        ("message='no', url='http://h/x?sig=a'", "message='no', url='http://h/x?sig=***'"),
        ("exceeded with url: /api?token=abc (Caused by x)", "exceeded with url: /api?token=*** (Caused by x)"),
        ("http:/u:p@host/x and https:/tok@host", "http:/***@host/x and https:/***@host"),
        ("3http://u:p@host", "3http://***@host"),
        ("http://u:/p@host http://u:99999/p@host", "http://***@host http://***@host"),
        ("Authorization: Bearer abc", "Authorization: ***"),
        ("{'Authorization': 'Basic abc==', 'n': 1}", "{'Authorization': '***', 'n': 1}"),
    ],
)  # fmt: skip
def test_credentials_are_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        *("metrics: http://127.0.0.1:9400/metrics; of all ranks: x", "http://[::1]:9400/", "(http://[::1])"),
        *("sftp://deploy@host/data", "abfs://container@account.dfs.core.windows.net/x", "http://host:9000/b/a@2x"),
        *("s3://bucket/hr", "s3://b/x?endpoint_override=minio:9000&scheme=http", "file:///a/b", "runs/a@last"),
        *("my_sr:Plain", "what? nothing=1", "data.hr = '/a?b' is missing", "--address auto, host:6379"),
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redact(text) == text


def test_secrets_of_the_environment_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLESR_PUSH_TOKEN", "hunter2-token")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2/key")
    monkeypatch.setenv("CYCLESR_TEST_FOLDER", "some/folder")
    assert redact("b'hunter2-token' and hunter2/key in some/folder") == "b'***' and *** in some/folder"


def test_a_long_text_takes_no_long_time() -> None:
    """Of a second or so in all: each pattern goes through it once."""
    for text in ("a" * 300_000, "a:" * 150_000, "?a=" * 100_000, "a?" * 100_000, "://" * 100_000, "[" * 300_000):
        redact(f"{text} http://u:p@h")


def test_every_error_of_ours_is_without_them() -> None:
    assert str(InputError("http://u:hunter2@h/x: missing")) == "http://***@h/x: missing"


def test_values_are_hidden_wherever_they_are_nested() -> None:
    given_ = {"a": ["https://h/x?sig=1", 2], "b": ("plain", "/a?b=c"), "c": None}
    assert redacted(given_) == {"a": ["https://h/x?sig=***", 2], "b": ("plain", "/a?b=c"), "c": None}


# Nothing of the alphabet occurs in the texts around it, or in the mark that stands for a secret.
SECRET = st.text("QZXJ" + string.digits, min_size=6, max_size=20)
ODD = st.text("QZXJ/?#@:%'\"+=&~!$(),;[]", min_size=3, max_size=12).map(lambda text: f"Q{text}Q")
HOST = st.sampled_from(["host", "127.0.0.1", "[::1]", "a.b-c.example"])
PORT = st.sampled_from(["", ":80", ":65535"])
PATH = st.sampled_from(["", "/", "/a/b", "/a%20b.tar"])
SCHEME = st.sampled_from(["http", "https", "s3", "ftp", "sftp", "ray", "abfs", "HTTP"])
AROUND = st.sampled_from(
    [("", ""), ("url='", "', more"), ('"', '"'), ("(", ")."), ("x=", " y"), ("at <", ">"), ("[", "]")]
)


@settings(max_examples=150, deadline=None)
@given(SCHEME, SECRET, HOST, PORT, PATH, st.lists(SECRET, max_size=3), AROUND)
def test_nothing_of_a_secret_is_left_of_a_url(scheme, password, host, port, path, signatures, around) -> None:
    query = "&".join(f"key{i}={value}" for i, value in enumerate(signatures))
    url = f"{scheme}://user:{password}@{host}{port}{path}{'?' if query else ''}{query}"
    text = redact(f"{around[0]}{url}{around[1]}")
    for secret in (password, *signatures):
        assert secret not in text
    assert f"@{host}{port}" in text
    assert text.startswith(around[0])
    assert text.endswith(around[1])
    assert redact(text) == text
    assert has_login(url)


@settings(max_examples=150, deadline=None)
@given(SCHEME, ODD, HOST, PORT)
def test_nor_of_a_password_that_no_parser_would_take(scheme, password, host, port) -> None:
    """Alone, as a configuration has it. The last @ ends it, a query apart."""
    shown = redact_url(f"{scheme}://user:{password}@{host}{port}/x")
    assert not set("QZXJ") & set(shown)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_taken_and_twice_is_the_same_as_once(text: str) -> None:
    for shown in (redact(text), redact(f"http://{text}"), redact(f"?{text}")):
        assert redact(shown) == shown
    assert redact_url(redact_url(text)) == redact_url(text)
