"""The mirrors that datasets name: in order, and trusted only where a checksum proves them."""

import pytest

from mtlcli import lookup
from mtlcli.data import mirror
from mtlcli.datasets._dataset import Remote

REMOTES = {
    f"{name}/{source}/{remote.file}": remote
    for name in lookup.names("datasets")
    for source, said in lookup.load("datasets", name).DATASET.sources.items()
    for remote in said.files
}


@pytest.mark.parametrize("remote", REMOTES.values(), ids=REMOTES)
def test_a_mirror_anybody_may_have_made_needs_a_published_checksum(remote: Remote) -> None:
    for url in remote.urls:
        if url.startswith((mirror.ZIPPED, "http:")):
            assert remote.sha256 is not None
        if url.startswith(mirror.ZIPPED):
            assert remote.size is not None


@pytest.mark.parametrize("name", ["nyud/atrc/NYUDv2.tar.gz", "pascal/bundle/PASCAL_MT.tgz"])
def test_bundles_come_from_the_hosts_that_still_answer_first(name: str) -> None:
    hosts = [mirror.host_of(url) for url in REMOTES[name].urls]
    assert hosts == [
        "Google Drive",
        "hkustconnect-my.sharepoint.com",
        "data.vision.ee.ethz.ch",
    ]


@pytest.mark.parametrize("remote", REMOTES.values(), ids=REMOTES)
def test_every_address_can_be_opened_by_hand(remote: Remote) -> None:
    for url in remote.urls:
        assert mirror.link_of(url).startswith(("https://", "http://"))
        assert mirror.host_of(url)
