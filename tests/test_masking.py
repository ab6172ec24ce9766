"""Passwords and tokens are told from a text, and nothing else is."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from idl_cli.masking import MASK, masked, masked_text

SECRET = "hunter2-Ab9"


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@host.org/path",
        f"https://{SECRET}@host.org",
        f"postgresql+psycopg://me:p@{SECRET}@db:5432/x: cannot be used",
        f"dataset.mirror=https://host/a?token={SECRET}&part=2",
        f"https://host/a?part=2&api_key={SECRET}#end",
        f"https://host/a?sig={SECRET}",
        f"++hydra.job.env_set={{WANDB_API_KEY:{SECRET},OTHER:2}}",
        f"+plug_in.password='{SECRET} and more'",
        f'{{"client_secret": "{SECRET}"}}',
        f"Authorization: Bearer {SECRET}",
        f"MLFLOW_TRACKING_PASSWORD={SECRET}",
        f"api-key = {SECRET}",
        f"https://me:a/{SECRET}@host.org/x",
        f"https://me:a?{SECRET}#@host.org/x",
        f"https://host/a;jsessionid={SECRET}?x=1",
        f"https://host/a?sv=1&jwt={SECRET}",
        f"https://host/a?next=token%3D{SECRET}",
        f"AccountName=a;AccountKey={SECRET};",
        f"--http-password {SECRET}",
        f"pushed with ghp_{SECRET.replace('-', '')}ABCDEFGHIJ",
    ],
)
def test_secrets_are_masked(text: str) -> None:
    shown = masked_text(text)
    assert SECRET not in shown
    assert SECRET.replace("-", "") not in shown
    assert "more'" not in shown
    assert MASK in shown
    assert masked_text(shown) == shown, "a record that is read and written again stays as it is"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////tmp/a@b.db",
        "https://host.org/a@b?x=a@b",
        "https://host.org:8080/a@b",
        "https://host.org:8080?x=a@b",
        "hf_a_name_of_a_variable",
        "--password-file",
        "git@host.org:me/project.git",
        "model.max_tokens=512",
        "dataset.target=token",
        "plug_in.token=null",
        "plug_in.token=${oc.env:TOKEN}",
        "optimizer.lr=1e-2",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked_text(text) == text


def test_a_variable_of_the_environment_is_masked_wherever_it_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", SECRET)
    assert masked_text(f"entity {SECRET} is unknown") == f"entity {MASK} is unknown"


def test_nested_values_are_masked_by_their_keys() -> None:
    value = {
        "logger": {"api_key": SECRET, "tags": ("a", f"https://u:{SECRET}@h"), "entity": None},
        "credentials": {"user": SECRET, "pins": [1234]},
        "password": 1234,
        "token_dim": 64,
        "secret": None,
    }
    assert masked(value) == {
        "logger": {"api_key": MASK, "tags": ["a", f"https://{MASK}@h"], "entity": None},
        "credentials": {"user": MASK, "pins": [MASK]},
        "password": MASK,
        "token_dim": 64,
        "secret": None,
    }


PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc /:=@,"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_"), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=80, derandomize=True, deadline=None)
@given(PLAIN, st.text("abc:", min_size=1))
def test_a_password_in_an_address_is_found_at_any_depth(value: Any, user: str) -> None:
    address = f"https://{user}{SECRET}@host"
    assert SECRET not in repr(masked({"a": [value, {"b": (address, value)}]}))
    if "://" not in repr(value):
        assert masked(value) == value
