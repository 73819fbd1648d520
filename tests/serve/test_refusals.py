"""Bad and hostile requests get an error that tells what is wrong, and hurt nothing."""

import io
import struct
import tempfile
import threading
import time
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image


def refused(answer, status, *words):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    for word in words:
        assert word in problem["detail"]
    return problem


def png(width, height):
    """A PNG file whose header promises more than there is."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def cells(photos):
    return photos["cells.png"].read_bytes()


def send(client, content, name="a.png", **options):
    return client.post("/v1/segment?run=late", files={"image": (name, content)}, **options)


@pytest.mark.parametrize(
    ("name", "content", "status", "word"),
    [
        ("notes.txt", b"only words", 415, "notes.txt"),
        ("a.gif", b"GIF89a", 415, "GIF"),
        ("a.pdf", b"%PDF-1.7", 415, "PDF"),
        ("a.svg", b"<svg></svg>", 415, "SVG"),
        ("cut.png", png(20, 20)[:60], 422, "cut.png"),
        ("promise.png", png(20, 20), 422, "promise.png"),
        ("a.jpg", b"\xff\xd8\xff\xe0", 422, "a.jpg"),
        ("a.tif", b"II*\0\x08\0\0\0", 422, "a.tif"),
        ("bomb.png", png(60000, 60000), 413, "too large"),
        ("", b"", 422, "empty"),
    ],
)
def test_what_is_no_good_image(client, name, content, status, word):
    refused(send(client, content, name or "x"), status, word)


def test_every_beginning_of_a_file(client, photos):
    for name in ("cells.png", "turned.jpg", "deep.tif", "oblong.webp", "grey.bmp"):
        content = photos[name].read_bytes()
        for length in (1, 3, 8, 20, 60, len(content) // 3, len(content) - 3):
            answer = send(client, content[:length], name)
            assert answer.status_code in (200, 415, 422)  # a JPEG that lacks its last bytes may be whole enough
        assert send(client, content, name).status_code == 200


def test_damaged_files(make_client, photos):
    """Some bytes are others, most often near the beginning, where headers lie."""
    client, rng = make_client(pixels=100_000), np.random.default_rng(0)
    statuses = []
    for name, path in photos.items():
        for _ in range(12):
            content = np.frombuffer(path.read_bytes(), np.uint8).copy()
            places = (len(content) * rng.random(rng.integers(1, 6)) ** 4).astype(int)
            content[places] = rng.integers(0, 256, len(places))
            answer = send(client, content.tobytes(), name)
            statuses.append(answer.status_code)
            assert answer.status_code in (200, 413, 415, 422), answer.text
    assert {200, 422} <= set(statuses)
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}


@pytest.mark.parametrize("name", ["../../../etc/passwd", "..\\..\\evil.png", "/etc/passwd", "\x1b[2J.png", "a" * 1000])
def test_names_of_files_go_nowhere(client, cells, name):
    assert send(client, cells, name).status_code == 200
    detail = refused(send(client, b"nothing", name), 415)["detail"]
    assert "/" not in detail.partition(" is ")[0]
    assert "\\.." not in detail
    assert "\x1b" not in detail
    assert len(detail) < 300


def test_too_many_bytes(make_client, cells):
    small = make_client(upload_bytes=len(cells) + 500)
    assert send(small, cells).status_code == 200
    refused(send(small, cells + bytes(1000)), 413, "MB")

    def pieces():  # whose length is not told before
        for _ in range(1000):
            yield bytes(1000)

    refused(small.post("/v1/segment?run=late", content=pieces()), 413, "MB")
    assert small.segmenting.room.taken == 0


def test_too_many_pixels(make_client, cells):
    height, width = np.asarray(Image.open(io.BytesIO(cells))).shape[:2]
    assert send(make_client(pixels=height * width), cells).status_code == 200
    refused(send(make_client(pixels=height * width - 1), cells), 413, f"{width} x {height}")


def test_a_jpeg_file_of_many_passes(make_client):
    """Each takes a few bytes of the file, and the time of a whole image."""
    stream = io.BytesIO()
    Image.new("RGB", (400, 300)).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    careful = make_client(pixels=400 * 300)
    assert send(careful, content).status_code == 200
    last = content.rindex(b"\xff\xda")
    refused(send(careful, content[:-2] + 30 * content[last:-2] + content[-2:]), 422, "steps")


def test_a_tiff_file_of_many_channels(make_client):
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((40, 20, 30), np.float64), photometric="minisblack", planarconfig="separate")
    refused(send(make_client(pixels=20 * 30), stream.getvalue()), 413, "40")


def test_a_tiff_file_whose_pages_form_a_ring(client):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for _ in range(3):
            file.write(np.full((30, 40), 90, np.uint8), metadata=None)
    content = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        offsets = [page.offset for page in file.pages]
    count = struct.unpack_from("<H", content, offsets[-1])[0]
    struct.pack_into("<I", content, offsets[-1] + 2 + 12 * count, offsets[0])
    assert send(client, bytes(content), "a.tif").status_code == 200


def test_forms_that_are_none(client, cells):
    post = client.post
    refused(post("/v1/segment?run=late", files={"picture": cells}), 422, "'image'")
    refused(post("/v1/segment?run=late", files=[("image", cells), ("image", cells)]), 422, "2 files")
    refused(post("/v1/segment?run=late", files={"image": cells}, data={"threshold": "0.3"}), 422, "'threshold'")
    refused(post("/v1/segment?run=late", files={"image": cells}, data={"run": "conv-lora"}), 422, "two different")
    refused(post("/v1/segment?run=late", files={"image": cells}, data={f"f{n}": "x" for n in range(50)}), 422, "form")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        refused(post("/v1/segment?run=late", content=b"--y\r\nx", headers={"Content-Type": kind}), 422, "form")
    refused(post("/v1/segment?run=late", content=b"{}", headers={"Content-Type": "application/json"}), 415, "json")
    refused(post("/v1/segment?run=late"), 422, "empty")


def test_parameters_that_are_wrong(client, cells):
    refused(client.post("/v1/segment", content=cells), 422, "conv-lora", "late")
    refused(client.post("/v1/segment?run=nix", content=cells), 404, "'nix'", "late")
    refused(client.post("/v1/segment", files={"image": cells}, data={"run": "nix"}), 404, "'nix'")
    refused(client.post("/v1/segment?run=late&format=gif", content=cells), 422, "format")
    refused(client.post("/v1/segment?run=late&threshold=0.3", content=cells), 422, "'threshold'")
    refused(client.post("/v1/segment?run=late&picture=mask", content=cells), 422, "format=json")
    refused(client.post("/v1/segment?run=town&format=probability", content=cells), 422, "probability")
    refused(client.get("/v1/segment"), 405)
    refused(client.get("/v2"), 404, "/v2")


def test_nothing_is_written(client, photos, monkeypatch):
    """Forms larger than a megabyte would be spooled to a file, which cannot be made here."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)).save(stream, "PNG")
    assert len(stream.getvalue()) > 2e6
    assert send(client, stream.getvalue()).status_code == 200
    for name, path in photos.items():
        assert send(client, path.read_bytes(), name).status_code == 200


def test_other_hosts_and_pages(client, make_client, cells):
    for host in ("evil.example", "127.0.0.1.evil.example:8000", "", "169.254.1.1"):
        refused(client.get("/v1/runs", headers={"Host": host}), 403, "--allow-host")
    for host in ("localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert client.get("/v1/runs", headers={"Host": host}).status_code == 200
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9000", "http://localhost:8000"):
        refused(send(client, cells, headers={"Origin": origin}), 403, "another site")
    assert send(client, cells, headers={"Origin": "http://127.0.0.1:8000"}).status_code == 200
    behind = make_client(allowed_hosts=["seg.example"])
    for headers in ({"Host": "seg.example"}, {"Host": "seg.example", "Origin": "https://seg.example"}):
        assert behind.get("/v1/runs", headers=headers).status_code == 200
    assert send(behind, cells, headers={"Origin": "https://seg.example"}).status_code == 200
    refused(behind.get("/", headers={"Host": "evil.example"}), 403)
    open_to_all = make_client(allowed_hosts=None)
    assert open_to_all.get("/v1/runs", headers={"Host": "gpu-box:8000"}).status_code == 200
    refused(send(open_to_all, cells, headers={"Origin": "http://evil.example"}), 403)


def test_other_sites_may_not_read_answers(client):
    for path in ("/", "/v1/runs", "/nix"):
        headers = client.get(path, headers={"Origin": "http://127.0.0.1:8000"}).headers
        assert "access-control-allow-origin" not in headers
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"


class Held:
    """A model that waits until it may answer."""

    def __init__(self, segmenter, monkeypatch):
        self.may, self.asked, self._outputs = threading.Event(), threading.Semaphore(0), segmenter.outputs
        monkeypatch.setattr(segmenter, "outputs", self.outputs, raising=False)

    def outputs(self, images):
        self.asked.release()
        assert self.may.wait(30)
        return self._outputs(images)


def test_too_many_wait(make_client, served, cells, monkeypatch):
    client, held = make_client(waiting=2), Held(served["late"].segmenter, monkeypatch)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(send(client, cells))) for _ in range(2)]
    for thread in threads:
        thread.start()
    held.asked.acquire(timeout=30)
    while client.segmenting.waiting < 2:
        time.sleep(0.01)
    refused(answer := send(client, cells), 503, "waiting")
    assert int(answer.headers["retry-after"]) > 0
    held.may.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert client.segmenting.waiting == 0
    assert send(client, cells).status_code == 200


def test_too_many_bytes_arrive_together(make_client, served, cells, monkeypatch):
    client, held = make_client(upload_bytes=len(cells) + 500), Held(served["late"].segmenter, monkeypatch)
    client.segmenting.room.most = int(1.5 * len(cells))
    thread = threading.Thread(target=lambda: send(client, cells))
    thread.start()
    held.asked.acquire(timeout=30)
    assert "retry-after" in send(client, cells).headers
    held.may.set()
    thread.join()
    assert send(client, cells).status_code == 200
    assert client.segmenting.room.taken == 0


def test_an_answer_that_takes_too_long(make_client, served, cells, monkeypatch):
    client, held = make_client(seconds=0.3), Held(served["late"].segmenter, monkeypatch)
    refused(send(client, cells), 504, "0.3 seconds")
    held.may.set()
    client.segmenting.limits.__dict__["seconds"] = 60
    assert send(client, cells).status_code == 200
    assert client.segmenting.waiting == 0


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("nix"), 500), (MemoryError(), 503), (RuntimeError("CUDA out of memory"), 503)]
)
def test_a_model_that_fails(make_client, served, cells, monkeypatch, error, status):
    client, segmenter = make_client(), served["late"].segmenter

    def fail(images):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(segmenter, "outputs", fail, raising=False)
        assert "nix" not in refused(send(client, cells), status)["detail"]
    assert send(client, cells).status_code == 200
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}


def test_a_dead_engine_is_told(make_client):
    client = make_client()
    client.segmenting.engine.close()
    refused(client.get("/healthz"), 503, "Start the server again")
