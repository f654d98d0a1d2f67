"""Tests of `conf.settings`: which of option, environment, file and default wins, and what is an error."""

import codecs
import getpass
import os

import pytest

from conf.errors import TinyTagsError
from conf.settings import HELP, Settings, load_settings, user_name


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in HELP:
        monkeypatch.delenv(f"TINYTAGS_{name.upper()}", raising=False)


def test_an_option_wins_over_the_environment_over_the_file_over_the_default(tmp_path, monkeypatch):
    stores = [load_settings({}, tmp_path).store]
    (tmp_path / "tinytags.toml").write_text('store = "from the file"\nalias = "others"\n')
    stores.append(load_settings({}, tmp_path).store)
    monkeypatch.setenv("TINYTAGS_STORE", "from the environment")
    stores.append(load_settings({"store": None}, tmp_path).store)
    stores.append(load_settings({"store": "from the option"}, tmp_path).store)
    assert stores == [Settings().store, "from the file", "from the environment", "from the option"]
    assert load_settings({}, tmp_path).alias == "others", "each setting has its own source"


def test_a_local_store_is_a_path_and_has_the_database_unless_one_is_in_use_or_given(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    for given, store in (
        ("~/there", "/home/ada/there"),
        (f"file:{tmp_path}", str(tmp_path)),
        (f"file://{tmp_path}", str(tmp_path)),
    ):
        (tmp_path / "tinytags.toml").write_bytes(codecs.BOM_UTF8 + f'store = "{given}"'.encode())
        settings = load_settings(folder=tmp_path)
        assert (settings.store, settings.database) == (store, f"sqlite:///{store}/tinytags.db")
        assert load_settings({"database": "none"}, tmp_path).database == "none"
    for given, database in (
        ("sqlite:///~/x.db", "sqlite:////home/ada/x.db"),
        ("sqlite:///x~/x.db", "sqlite:///x~/x.db"),
        ("postgresql://host/~/x", "postgresql://host/~/x"),
    ):
        assert load_settings({"database": given}, tmp_path).database == database
    (tmp_path / "tinytags.toml").unlink()
    default = load_settings(folder=tmp_path)
    assert (default.store, default.database) == ("data", "sqlite:///data/tinytags.db")
    assert load_settings({"store": "hdfs://host:8020/x"}, tmp_path).database == default.database
    with monkeypatch.context() as only:
        only.setattr(os, "access", lambda path, mode: False)  # a file system that can only be read
        assert load_settings({"store": str(tmp_path)}, tmp_path).database == default.database
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tinytags.db").touch()
    assert load_settings({"store": "/elsewhere"}, tmp_path).database == default.database


def test_an_empty_variable_counts_as_not_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYTAGS_ALIAS", "")
    assert load_settings({}, tmp_path).alias == "tags"


def test_a_user_without_a_name_has_a_number(monkeypatch):
    def no_name():
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", no_name)
    assert user_name.__wrapped__() == str(os.getuid())


def test_every_setting_has_a_help_text():
    assert set(HELP) == set(vars(Settings()))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"store = ", "Invalid value"),
        (b"store = \xff", "utf-8"),
        (b"sotre = 'data'", "there is no setting 'sotre'; there are store, webhdfs, solr"),
        (b"store = 3", "store is 3; write a string in quotes"),
        (b"[store]\npath = 'data'", "write a string in quotes"),
    ],
)
def test_an_invalid_file_is_one_line_with_its_name(tmp_path, content, words):
    (tmp_path / "tinytags.toml").write_bytes(content)
    with pytest.raises(TinyTagsError, match=r"tinytags\.toml: ") as error:
        load_settings({}, tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "localhost:8983",
        "ftp://host/solr",
        "http://",
        "http://[::1",
        "http://host:many/solr",
        "http://host:99999",
    ],
)
@pytest.mark.parametrize("name", ["solr", "webhdfs"])
def test_an_invalid_address_is_quoted_with_its_setting(tmp_path, name, address):
    with pytest.raises(TinyTagsError) as error:
        load_settings({name: address}, tmp_path)
    assert str(error.value) == f"setting {name} is {address!r}; write http://HOST:PORT"


@pytest.mark.parametrize("days", ["0", "-1", "1.5", "for ever", "99999999"])
def test_a_retention_that_is_no_number_of_days_is_quoted(tmp_path, days):
    with pytest.raises(TinyTagsError) as error:
        load_settings({"retention_days": days}, tmp_path)
    assert f"retention_days is {days!r}" in str(error.value)
    assert load_settings({"retention_days": "30"}, tmp_path).retention_days == "30"
