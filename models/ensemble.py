"""The ensemble: members vote in order of cost, and a row stops once its vote is certain (the cascade).

The HTTP server's queue and offline scoring call the same `Ensemble.run`, so both give the same answers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle, BundleRefused, Member
from models.bundle_encoder import BundleEncoder
from models.classifier import CPU, CUDA, OnnxClassifier, OutOfMemory, States
from models.encoding import Encoded, EncodedBatch, EncodedExample
from models.errors import UserError
from models.example import Example, InvalidExample, Prediction
from models.labels import RELATIONS
from models.memory import large_blocks_apart
from models.precision import PRECISIONS, Device
from models.voting import softmax

PROVIDERS: Final[dict[Device, str]] = {"cpu": CPU, "cuda": CUDA}


class DeviceUnavailable(UserError, RuntimeError):
    """The wanted device cannot run this bundle. The message says why."""


@dataclass(frozen=True, slots=True)
class _Voter:
    """A loaded member.

    Attributes:
        classifiers: its graph, once for each copy.
        encoding: the index of the encoding that it reads.
        continues: the index of the member whose states it takes; None if it starts with token ids.
    """

    member: Member
    classifiers: tuple[OnnxClassifier, ...]
    encoding: int
    continues: int | None

    def answer(
        self, batch: EncodedBatch, states: States | None, copy: int
    ) -> tuple[NDArray[np.float32], States | None]:
        """Logits of shape (rows, 30), and states for the member that continues this one, if there is one.

        A batch that does not fit into the device's memory is run in halves.

        Args:
            states: of the member that this one continues.

        Raises:
            OutOfMemory: a single row does not fit.
        """
        try:
            return self.classifiers[copy % len(self.classifiers)].run(batch, states)
        except OutOfMemory:
            if len(batch) == 1:
                raise
        middle = len(batch) // 2
        logits, given = [], []
        for half in (slice(middle), slice(middle, None)):
            said, after = self.answer(batch[half], None if states is None else states[half], copy)
            logits.append(said)
            given += [] if after is None else [after]
        return np.concatenate(logits), States.join(given) if given else None


class Ensemble:
    """A bundle's members, loaded and ready to vote. Safe to call from several threads.

    Attributes:
        encoder: encodes examples for its members.
        device: the device whose graphs run.
        thresholds: after each member but the last, the vote's highest probability at which a row stops; empty
            where every member always votes.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: Device,
        provider: str,
        copies: int,
        threads: int,
        cascade_caution: float,
        encoder: BundleEncoder | None,
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.cascade_caution = cascade_caution
        self.thresholds = _thresholds(bundle, device, cascade_caution)
        members = bundle.manifest.members
        self.encoder = encoder or BundleEncoder(bundle)
        places = {member.name: place for place, member in enumerate(members)}
        self._voters = [
            _Voter(
                member,
                _classifiers(bundle, member, device, provider, copies, threads),
                self.encoder.encodings.index(member.encoding),
                None if member.continues is None else places[member.continues],
            )
            for member in members
        ]
        weights = np.array([voter.member.weight for voter in self._voters])
        self._shares = (weights / weights.cumsum()).tolist()  # each member's share of the vote so far

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        device: Device = "cpu",
        copies: int = 1,
        threads: int = 1,
        cascade_caution: float = 0.0,
        provider: str | None = None,
        encoder: BundleEncoder | None = None,
    ) -> "Ensemble":
        """Load every member.

        Args:
            copies: how often each graph is loaded; on CUDA copy n is on GPU n.
            threads: cores that one run of a graph can use.
            cascade_caution: 0 keeps the bundle's thresholds; 1 lets every member vote on every row; a value
                between raises each threshold by that part of its distance to 1. In fp16 every member always
                votes.
            provider: the execution provider that runs the device's graphs; by default the device's own.
            encoder: of this bundle, if it has been loaded before: reading a tokenizer takes longer than
                reading the graphs.

        Raises:
            DeviceUnavailable: the bundle has no graphs for the device, or the device refused them.
        """
        if device not in bundle.devices():
            raise DeviceUnavailable(
                f"bundle {bundle.manifest.name} has no graphs for {device}, "
                f"only for {', '.join(bundle.devices())}"
            )
        return cls(bundle, device, provider or PROVIDERS[device], copies, threads, cascade_caution, encoder)

    @property
    def providers(self) -> list[str]:
        """The execution provider in use by each member."""
        return [voter.classifiers[0].provider for voter in self._voters]

    @property
    def encodings(self) -> int:
        """The number of distinct encodings that the members read."""
        return len(self.encoder.encoders)

    def encode(self, example: Example) -> EncodedExample:
        """As `BundleEncoder.encode`."""
        return self.encoder.encode(example)

    def run(
        self, rows: Sequence[EncodedExample], copy: int = 0, every_member: bool = False
    ) -> list[Prediction]:
        """Run one batch through the cascade, in the calling thread.

        1. The next member votes on the rows that are left. If it continues another member, it takes the
           states that this one gave, and runs only its own layers.
        2. Its probabilities join each row's vote: the weighted mean of the members so far.
        3. Rows whose vote reaches the member's threshold stop with that vote. Their states are dropped.
        4. Back to 1 with the other rows, until no row or no member is left.

        Args:
            copy: which copy of the graphs runs, modulo their number. Callers of one copy share its threads.
            every_member: let all members vote on every row.

        Returns:
            Predictions in the order of the rows.

        Raises:
            FloatingPointError: a probability is not finite.
        """
        predictions: dict[int, Prediction] = {}
        left = list(range(len(rows)))  # the rows that go on to the next member
        allowed = _allowed(rows)
        batches: dict[int, EncodedBatch] = {}
        states: dict[int, States] = {}  # of the rows that are left, by the member that gave them
        votes: NDArray[np.float64] = np.zeros((len(rows), len(RELATIONS)))
        for stage, voter in enumerate(self._voters):
            if voter.encoding not in batches:
                encoder = self.encoder.encoders[voter.encoding]
                batches[voter.encoding] = EncodedBatch.collate(
                    [rows[row].encodings[voter.encoding] for row in left], encoder.pad_token_id
                )
            before = None if voter.continues is None else states.pop(voter.continues)
            logits, given = voter.answer(batches[voter.encoding], before, copy)
            if given is not None:
                states[stage] = given
            said = softmax(logits, allowed)
            votes = votes + self._shares[stage] * (said - votes)  # the weighted mean of the members so far
            if stage < len(self.thresholds) and not every_member:
                sure = votes.max(axis=1) >= self.thresholds[stage]
                if sure.any():
                    stopped = [left[place] for place in np.flatnonzero(sure)]
                    predictions |= _predictions(rows, stopped, votes[sure], stage + 1)
                    left = [row for row in left if row not in predictions]
                    votes, allowed, batches = votes[~sure], None if allowed is None else allowed[~sure], {}
                    states = {place: of_rows[~sure] for place, of_rows in states.items()}
                if not left:
                    break
        predictions |= _predictions(rows, left, votes, len(self._voters))
        return [predictions[row] for row in range(len(rows))]

    def member_probabilities(self, rows: Sequence[EncodedExample], copy: int = 0) -> NDArray[np.float64]:
        """Each member's own probabilities for one batch, type restriction applied: (members, rows, 30)."""
        batches = [
            EncodedBatch.collate([row.encodings[index] for row in rows], encoder.pad_token_id)
            for index, encoder in enumerate(self.encoder.encoders)
        ]
        allowed = _allowed(rows)
        probabilities: list[NDArray[np.float64]] = []
        states: dict[int, States | None] = {}
        for stage, voter in enumerate(self._voters):
            before = None if voter.continues is None else states.pop(voter.continues)
            logits, states[stage] = voter.answer(batches[voter.encoding], before, copy)
            probabilities.append(softmax(logits, allowed))
        return np.stack(probabilities)

    @large_blocks_apart()
    def prove(self, fill_window: bool = True, in_batch: bool = True) -> None:
        """Check on every copy of the members that they give the answers of the bundle's golden rows.

        1. Run one row as long as the window.
        2. Run each golden row alone, with every member.
        3. Run all golden rows in one padded batch, with every member.

        Args:
            fill_window: False leaves out step 1, which tests the files alone, for graphs that have passed it.
            in_batch: False leaves out step 3, for members that run single rows only.

        Raises:
            BundleRefused: a run fails, or an answer has another label than the manifest, or a probability
                differs by more than its tolerance.
        """
        for copy in range(max(len(voter.classifiers) for voter in self._voters)):
            if fill_window:
                self._fill_window(copy)
            self._prove(copy, in_batch)

    def _prove(self, copy: int, in_batch: bool) -> None:
        golden = self.bundle.manifest.golden[self.device]
        encoded = []
        for number, row in enumerate(golden.rows, start=1):
            try:
                encoded.append(self.encode(Example.from_row(row.example)))
            except InvalidExample as error:
                raise BundleRefused(f"bundle {self.bundle.path}: golden row {number}: {error}") from None
        ways = [([[row] for row in encoded], "alone"), ([encoded], "in one batch")]
        for batches, how in ways if in_batch else ways[:1]:
            predictions = [
                prediction
                for batch in batches
                for prediction in self._tried(batch, copy, f"a golden row, run {how},")
            ]
            for number, (row, prediction) in enumerate(zip(golden.rows, predictions, strict=True), start=1):
                difference = float(np.abs(prediction.probabilities - row.probabilities).max())
                if prediction.relation != row.relation or not difference <= golden.tolerance:
                    raise BundleRefused(
                        f"bundle {self.bundle.path}: golden row {number}, run {how}, "
                        f"gives {prediction.relation}, not {row.relation} as expected, or a probability "
                        f"differs by {difference:.2g} (tolerance {golden.tolerance:g}): these are not "
                        f"the models that export checked"
                    )

    def _fill_window(self, copy: int) -> None:
        window = self.bundle.manifest.max_length
        # Any token but padding: RoBERTa and XLM-R give padding no position.
        longest = (
            Encoded(np.full(window, int(encoder.pad_token_id == 0)), np.array([1, window - 2]))
            for encoder in self.encoder.encoders
        )
        self._tried([EncodedExample(tuple(longest))], copy, f"a row of {window} tokens, its max_length,")

    def _tried(self, rows: Sequence[EncodedExample], copy: int, what: str) -> list[Prediction]:
        try:
            return self.run(rows, copy, every_member=True)
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = " ".join(str(error).split())[:300]
            raise BundleRefused(f"bundle {self.bundle.path}: {what} fails: {reason}") from None


def try_member(bundle: Bundle, device: Device) -> None:
    """Check that a device takes the bundle's graphs: load the first member, then release it.

    Raises:
        BundleRefused: the graph cannot be loaded.
        DeviceUnavailable: the device refused it.
    """
    _classifiers(bundle, bundle.manifest.members[0], device, PROVIDERS[device], copies=1, threads=1)


def _allowed(rows: Sequence[EncodedExample]) -> NDArray[np.bool_] | None:
    """Shape (rows, 30), or None where no row is restricted."""
    if all(row.allowed is None for row in rows):
        return None
    return np.stack(
        [np.ones(len(RELATIONS), dtype=bool) if row.allowed is None else row.allowed for row in rows]
    )


def _predictions(
    rows: Sequence[EncodedExample], places: Sequence[int], votes: NDArray[np.float64], members: int
) -> dict[int, Prediction]:
    """The predictions of the rows at `places`, from the votes of their first `members` members.

    Raises:
        FloatingPointError: a probability is not finite.
    """
    if not math.isfinite(votes.sum()):
        raise FloatingPointError(
            "a member's probability is not a finite number: the bundle's files were changed while in use, "
            "or the device fails"
        )
    return {
        place: Prediction(vote, members, rows[place].truncated)
        for place, vote in zip(places, votes, strict=True)
    }


def _thresholds(bundle: Bundle, device: Device, caution: float) -> tuple[float, ...]:
    graphs = [file for member in bundle.manifest.members if (file := member.file_for(device))]
    # In fp16 the last digits depend on the other rows of the batch. Near a threshold they would decide which
    # members vote, and so the answer.
    if (
        bundle.manifest.cascade is None
        or caution >= 1
        or not all(PRECISIONS[file.precision].exact for file in graphs)
    ):
        return ()
    return tuple(threshold + caution * (1 - threshold) for threshold in bundle.manifest.cascade.thresholds)


@large_blocks_apart()
def _classifiers(
    bundle: Bundle, member: Member, device: Device, provider: str, copies: int, threads: int
) -> tuple[OnnxClassifier, ...]:
    """A member's graph, loaded once for each copy."""
    file = member.file_for(device)
    assert file is not None  # Ensemble.load checks that the bundle has graphs for the device
    try:
        path = bundle.path / file.path
        weights = bundle.path / file.weights if file.weights else None
        classifiers = tuple(
            OnnxClassifier(path, threads, provider, gpu=copy, weights=weights) for copy in range(copies)
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise BundleRefused(
            f"bundle {bundle.path}: {file.path}: {' '.join(str(error).split())[:300]}"
        ) from None
    if others := {classifier.provider for classifier in classifiers} - {provider}:
        raise DeviceUnavailable(f"{provider} is required, but ONNX Runtime chose {', '.join(others)}")
    return classifiers
