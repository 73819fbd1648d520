"""A process that holds the model and segments one chunk of images after the other."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from convlora.errors import InputError, RunError, is_out_of_memory
from convlora.inference.files.jobs import run_jobs
from convlora.inference.files.resuming import state_of
from convlora.inference.fleet.account import Account
from convlora.inference.fleet.batch import Batch, Image, named_results
from convlora.inference.fleet.places import is_remote, join, sizes
from convlora.inference.fleet.work import Chunk, Done, Task
from convlora.inference.segmenter import Segmenter

CAREFUL = 2  # processes may end in a chunk before the next one goes on one image at a time
_MOST_DEATHS = 2  # processes that may end at one image then


class Worker:
    """Loads the model once; Ray makes one in each of its processes (actors).

    A process may end at any moment, and another one begins its chunk anew. It finds the account of what is done. If
    processes keep ending, images are segmented one at a time, and one at which two more have ended is left out.

    Args:
        task: How images are segmented.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.problem: tuple[str, bool] | None = None
        try:
            self.segmenter = Segmenter.load(
                task.run,
                model=task.model,
                device=task.device,
                precision=task.precision,
                tta=task.tta,
                threshold=task.threshold,
            )
        except (InputError, OSError) as error:  # raised here, it would only make Ray try again
            where = f"(On the machine {platform.node()}.)"
            self.problem = (f"{error} {where}", isinstance(error, InputError))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Segments chunks.

        Args:
            batch: `work`, the text of each chunk.

        Returns:
            `done`, the text of what became of each.
        """
        done = [self.segment(Chunk.of(str(text))).text() for text in batch["work"]]
        return {"done": np.array(done, dtype=object)}

    def segment(self, chunk: Chunk) -> Done:
        """Segments one chunk."""
        done = Done(chunk.number, notes=[("", note, 1) for note in chunk.notes])
        done.results = [{"image": image, "error": why} for image, why in chunk.refused]
        if chunk.fatal is not None:
            done.fatal = (chunk.fatal, True)
        elif self.problem is not None:
            done.fatal = self.problem
        elif chunk.images:
            try:
                self._segment(chunk, done)
            except (InputError, RunError) as error:
                done.fatal = (str(error), isinstance(error, InputError))
            except (OSError, RuntimeError, MemoryError) as error:
                kind = "ran out of memory" if is_out_of_memory(error) else "could not go on"
                done.fatal = (f"The machine {platform.node()} {kind} ({type(error).__name__}: {error}).", False)
        return done

    def _segment(self, chunk: Chunk, done: Done) -> None:
        account = Account.begin(self.task, chunk.name)
        images = [Image(str(name), _key(str(name), state)) for name, state in chunk.images]
        waiting = self._kept(images, account, done)
        if account.attempts <= CAREFUL:
            self._run(waiting, account, done)
        else:
            for image in waiting:
                if account.deaths.get(image.name, 0) >= _MOST_DEATHS:
                    why = (
                        f"{image.name} was left out: {_MOST_DEATHS} processes ended while they segmented it. Look at "
                        "it, or at the memory of the machines."
                    )
                    done.results.append({"image": image.name, "error": why})
                    continue
                account.trying = image.name
                account.write()
                self._run([image], account, done)
            account.trying = None
        account.write()

    def _run(self, images: list[Image], account: Account, done: Done) -> None:
        if not images:
            return
        task = self.task
        with tempfile.TemporaryDirectory(prefix="convlora-") as scratch:
            batch = Batch(task, images, Path(scratch), account)
            try:
                for result in run_jobs(
                    self.segmenter,
                    batch,
                    batch_size=task.batch_size,
                    tiles=task.tiles,
                    plain=task.plain,
                    extras=task.extras,
                    done=batch,
                ):
                    if "error" in result:
                        batch.failed(result)
                batch.finish()
            finally:
                batch.close()
        done.results += batch.results
        done.pieces |= batch.pieces
        done.notes += [(kind, text, batch.noted[kind]) for kind, text in batch.notes.items()]

    def _kept(self, images: list[Image], account: Account, done: Done) -> list[Image]:
        """The images that are not done yet; those that are go into the outcome."""
        output, known = self.task.output, account.entries
        made = {image: known[image.key]["made"] for image in images if image.key in known}
        files = sorted({join(output, name) for names in made.values() for name in names})
        if is_remote(output):
            states = {uri: str(size) for uri, size in zip(files, sizes(files))}
        else:
            states = {path: state_of(path) for path in files}
        waiting: list[Image] = []
        for image in images:
            names: dict[str, str] = made.get(image, {})
            if not names or any(states[join(output, name)] != state for name, state in names.items()):
                waiting.append(image)  # or something else has written there since
                continue
            entry: dict[str, Any] = known[image.key]
            done.kept.append(entry["result"] | named_results(output, image.name, entry["result"]))
            if isinstance(entry.get("piece"), str):
                done.pieces[image.name] = entry["piece"]
        account.entries = {image.key: known[image.key] for image in made if image not in set(waiting)}
        return waiting


def _key(name: str, state: str | None) -> str:
    return state_of(name) if state is None else f"{name}:{state}"
