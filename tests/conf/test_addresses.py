"""Tests of `conf.addresses`: what is printed of an address with a password, and what is sent."""

import base64

import pytest

from conf.addresses import split_login, without_passwords
from conf.errors import TinyTagsError
from conf.settings import Settings


@pytest.mark.parametrize(
    ("address", "printed"),
    [
        ("http://ada:secret@solr:8983/solr", "http://ada:***@solr:8983/solr"),
        ("postgresql+psycopg://ada:se/cr@et@db/x", "postgresql+psycopg://ada:***@db/x"),
        ("postgresql://db/x?user=ada&password=secret", "postgresql://db/x?user=ada&password=***"),
        ("https://host/dump.bin?X-Amz-Signature=secret#1", "https://host/dump.bin?X-Amz-Signature=***#1"),
        (
            "http://ada:secret@a/solr answers 500, http://ada:secret@b/solr 'x@y'",
            "http://ada:***@a/solr answers 500, http://ada:***@b/solr 'x@y'",
        ),
        ("http://solr:8983/solr: mail ada@example.org", "http://solr:8983/solr: mail ada@example.org"),
        ("hdfs://ada@namenode:8020/x", "hdfs://ada@namenode:8020/x"),
        ("data/a:b@c", "data/a:b@c"),
    ],
)
def test_every_password_of_a_text_is_replaced_and_nothing_else(address, printed):
    assert without_passwords(address) == printed
    assert str(TinyTagsError(address)) == printed
    assert printed in repr(Settings(store=address)).replace("\\'", "'")


@pytest.mark.parametrize(
    ("address", "plain", "login"),
    [
        ("http://ada:s%40cret@solr:8983/solr", "http://solr:8983/solr", "ada:s@cret"),
        ("http://ada@solr/solr", "http://solr/solr", "ada:"),
        ("http://solr:8983/solr", "http://solr:8983/solr", None),
        ("http://[::1", "http://[::1", None),
    ],
)
def test_a_login_is_split_from_its_address_and_sent_as_basic_auth(address, plain, login):
    headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
    assert split_login(address) == (plain, headers)
