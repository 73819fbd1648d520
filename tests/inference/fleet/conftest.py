"""Photos, what one process makes of them, and an object store on this machine."""

import os

import pytest

from convlora.api.predict import predict
from convlora.data.synthetic import write_task
from convlora.inference.fleet import places
from convlora.inference.fleet.work import Task

OPTIONS = {"overlay": True, "objects": True, "probabilities": True, "device": "cpu"}


@pytest.fixture(scope="session")
def shots(tmp_path_factory):
    """Seven images, and an eighth that is broken."""
    folder = tmp_path_factory.mktemp("shots")
    task = write_task("cells", folder / "data", num_train=7, num_val=1, num_test=1, size=(60, 70), seed=9)
    images = task / "train" / "images"
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return images


@pytest.fixture(scope="session")
def by_one_process(trained_run, shots, tmp_path_factory):
    """What the local engine writes and returns."""
    output = tmp_path_factory.mktemp("local") / "out"
    return output, predict(trained_run, shots, output, **OPTIONS)


@pytest.fixture(scope="session")
def store():
    """An object store that speaks S3, and a client of it."""
    boto3 = pytest.importorskip("boto3", reason="needs convlora[store-tests]")
    server = pytest.importorskip("moto.server", reason="needs convlora[store-tests]")
    pytest.importorskip("pyarrow.fs")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    _, port = running.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "of-a-test",
        "AWS_SECRET_ACCESS_KEY": "of-a-test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        places._system.cache_clear()
        client = boto3.client("s3", endpoint_url=settings["AWS_ENDPOINT_URL"], region_name="us-east-1")
        yield client
    running.stop()
    places._system.cache_clear()


@pytest.fixture
def bucket(store, request):
    """An empty bucket of the test's own."""
    name = "".join(sign if sign.isalnum() else "-" for sign in request.node.name.lower())[:50]
    store.create_bucket(Bucket=name)
    return name


def put(client, bucket, folder, prefix):
    for path in sorted(folder.iterdir()):
        client.put_object(Bucket=bucket, Key=f"{prefix}/{path.name}", Body=path.read_bytes())


def content(client, bucket, prefix):
    """Content of all objects below a prefix, by their names."""
    found = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    names = [entry["Key"] for entry in found]
    return {
        name.removeprefix(f"{prefix}/"): client.get_object(Bucket=bucket, Key=name)["Body"].read() for name in names
    }


def files(folder):
    """Content of all files of a folder, by their names; of its subfolders none."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def task_for(run, output, **changes):
    from convlora.inference.files.extras import Extras

    settings = {
        "run": str(run), "output": str(output), "made_by": "x", "token": "t", "model": None, "device": "cpu",
        "precision": "auto", "tta": False, "threshold": None, "tiles": None, "batch_size": None, "overlay": True,
        "plain": False, "extras": Extras(probabilities=True, objects=True),
    }  # fmt: skip
    return Task(**(settings | changes))


def names_of(results):
    return sorted(os.path.basename(result["image"]) for result in results)  # noqa: PTH119 - also of URIs
