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
    return fetch(file, folder, **options)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


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


def test_a_broken_transfer_is_tried_again(site, tmp_path):
    site.cut_after = [100_000]
    assert get(remote(site), tmp_path).read_bytes() == CONTENT
    assert site.asked == [None, None]


def test_half_a_file_is_never_taken_for_the_whole(site, tmp_path):
    site.cut_after = [100_000, 100_000]
    with pytest.raises(RunError, match="cannot be fetched"):
        get(remote(site), tmp_path, more_attempts=1)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_not_the_line(site, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", full)
    with pytest.raises(OSError, match="No space left"):
        get(remote(site), tmp_path)


def test_passing_failures_of_the_server_are_waited_for(site, tmp_path):
    site.statuses = [503, 500]
    assert get(remote(site), tmp_path).read_bytes() == CONTENT


def test_lasting_ones_are_told(site, tmp_path):
    site.statuses = [503] * 9
    with pytest.raises(RunError, match="503"):
        get(remote(site), tmp_path, more_attempts=1)
    site.statuses = [403] * 9
    with pytest.raises(InputError, match=r"answers 403 .*give it with --from"):
        get(remote(site), tmp_path)


def test_no_server_at_all(tmp_path):
    with pytest.raises(RunError, match="cannot be fetched"):
        get(RemoteFile("http://127.0.0.1:9/data.zip"), tmp_path, more_attempts=1)


def test_other_content_is_refused(site, tmp_path):
    file = remote(site, "sha256:" + "0" * 64)
    with pytest.raises(InputError, match=r"another checksum than sha256:0{64}"):
        get(file, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_web_addresses(tmp_path):
    secret = tmp_path / "secret.zip"
    secret.write_bytes(CONTENT)
    for url in (secret.as_uri(), "example.org/data.zip"):
        with pytest.raises(InputError, match=r"neither an http nor an https address\. Correct --mirror"):
            get(RemoteFile(url), tmp_path / "out")
