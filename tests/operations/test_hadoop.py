"""Tests of `operations.services.hdfs` as clients see it: in a file of its own, which runs where the HDFS of other tests does."""

import getpass

from hdfs import InsecureClient


def test_the_configuration_folder_leads_hadoop_clients_to_hdfs(hdfs):
    assert f"<value>{hdfs.url}</value>" in (hdfs.conf_dir / "core-site.xml").read_text()
    client = InsecureClient(hdfs.webhdfs, timeout=30)
    client.write("/services/without-a-user-name", b"as the user who started it")
    assert client.status("/services/without-a-user-name")["owner"] == getpass.getuser()
