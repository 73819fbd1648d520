import errno
import hashlib

import pytest

from convlora.errors import InputError, RunError
from convlora.prepare.catalogue import RemoteFile
from convlora.prepare.download import fetch

CONTENT = bytes(range(256)) * 5000  # more than one chunk


def remote(site, checksum=None):
    site.files["data.zip"] = CONTENT
    return RemoteFile(f"{site.url}/data.zip", checksum)


def get(file, folder, **options):
    return fetch(file, folder, pause=0.0, **options)


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_fetched_whole_and_checked(site, tmp_path, kind):
    heard = []
    file = remote(site, f"{kind}:{hashlib.new(kind, CONTENT).hexdigest()}")
    path = get(file, tmp_path, progress=lambda there, total: heard.append((there, total)))
    assert path.read_bytes() == CONTENT
    assert heard[-1] == (len(CONTENT), len(CONTENT))
    assert [one.name for one in tmp_path.iterdir()] == ["data.zip"]


def test_a_complete_file_is_not_fetched_again(site, tmp_path):
    file = remote(site)
    get(file, tmp_path)
    get(file, tmp_path)
    assert site.asked == [None]


def test_a_broken_transfer_goes_on_where_it_was(site, tmp_path):
    site.cut_after = [100_000, 50_000]
    assert get(remote(site), tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_so_does_one_of_another_process(site, tmp_path):
    site.cut_after = [100_000] + [0] * 9
    with pytest.raises(RunError, match="Give the same command again"):
        get(remote(site), tmp_path, attempts=2)
    assert (tmp_path / "data.zip.part").stat().st_size == 100_000
    site.cut_after = []
    assert get(remote(site), tmp_path).read_bytes() == CONTENT
    assert site.asked[-1] == "bytes=100000-"


def test_parts_of_two_versions_are_never_joined(site, tmp_path):
    site.cut_after = [100_000] + [0] * 9
    with pytest.raises(RunError):
        get(remote(site), tmp_path, attempts=1)
    site.cut_after, site.etag = [], '"two"'
    file = remote(site)
    site.files["data.zip"] = CONTENT[::-1]
    assert get(file, tmp_path).read_bytes() == CONTENT[::-1]


def test_servers_without_ranges_send_all_of_it_again(site, tmp_path):
    site.cut_after, site.ranges = [100_000], False
    assert get(remote(site), tmp_path).read_bytes() == CONTENT


def test_a_longer_part_than_the_file_begins_anew(site, tmp_path):
    site.cut_after = [len(CONTENT) - 1, 0]
    with pytest.raises(RunError):
        get(remote(site), tmp_path, attempts=1)
    site.cut_after = []
    file = remote(site)
    site.files["data.zip"] = CONTENT[:1000]
    assert get(file, tmp_path).read_bytes() == CONTENT[:1000]


def test_a_part_that_is_complete_is_not_fetched_again(site, tmp_path):
    site.cut_after = [len(CONTENT) // 2, 0]
    with pytest.raises(RunError):
        get(remote(site), tmp_path, attempts=1)
    (tmp_path / "data.zip.part").write_bytes(CONTENT)  # killed before it could be renamed
    assert get(remote(site), tmp_path).read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_full_disk_is_not_the_line(site, tmp_path, monkeypatch):
    def full(url, part, progress):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("convlora.prepare.download._transfer", full)
    with pytest.raises(OSError, match="No space left"):
        get(remote(site), tmp_path)


def test_passing_failures_of_the_server_are_waited_for(site, tmp_path):
    site.statuses = [503, 500]
    assert get(remote(site), tmp_path).read_bytes() == CONTENT


def test_lasting_ones_are_told(site, tmp_path):
    site.statuses = [503] * 9
    with pytest.raises(RunError, match="503"):
        get(remote(site), tmp_path, attempts=3)
    site.statuses = [403]
    with pytest.raises(InputError, match=r"answers 403 .*give it with --from"):
        get(remote(site), tmp_path)
    assert len(site.asked) == 4


def test_no_server_at_all(tmp_path):
    with pytest.raises(RunError, match="cannot be fetched"):
        get(RemoteFile("http://127.0.0.1:9/data.zip"), tmp_path, attempts=2)


def test_other_content_is_set_aside(site, tmp_path):
    file = remote(site, "sha256:" + "0" * 64)
    with pytest.raises(InputError, match=r"has the sha256 [0-9a-f]{64}, but 0{64} was expected"):
        get(file, tmp_path)
    assert not (tmp_path / "data.zip").exists()
    assert (tmp_path / "data.zip.rejected").read_bytes() == CONTENT


def test_only_web_addresses(tmp_path):
    secret = tmp_path / "secret.zip"
    secret.write_bytes(CONTENT)
    for url in (secret.as_uri(), "example.org/data.zip"):
        with pytest.raises(InputError, match=r"neither an http nor an https address\. Correct --mirror"):
            get(RemoteFile(url), tmp_path / "out")
