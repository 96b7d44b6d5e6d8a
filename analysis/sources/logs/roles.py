"""The names of a run -> roles, by their words: which is validation accuracy, which is a clock."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from analysis.sources import names
from analysis.sources.columns import COUNTS, JUDGED, KNOWN, LISTS, REQUIRED, SCORE_ROLE
from analysis.sources.formats.parts import PRINTED, Part
from analysis.sources.names import ACCURACY, ERROR, LOSS, RATE, SCORE, Meaning

STEP, TRIAL = "step", "trial_id"
VALIDATION_ROLES = JUDGED
# Whose own names are always meant.
_EXACT = (*COUNTS, *LISTS, "val_refined_loss", "initial_train_loss", "val_correct_bits")
ASKABLE = (*KNOWN, STEP)


class Score(NamedTuple):
    """A metric of the validation set that is no accuracy and no loss."""

    name: str  # as the log has it
    word: str  # what it is: map, f1, wer
    lower_is_better: bool


@dataclass
class Roles:
    """What the names of a run are."""

    of: dict[str, str] = field(default_factory=dict)  # role -> name
    errors: set[str] = field(default_factory=set)  # names of shares of wrong answers
    scores: list[Score] = field(default_factory=list)
    unsettled: dict[str, list[str]] = field(default_factory=dict)  # role -> names that may be it
    notes: list[str] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)  # names that are metrics, used or not

    def roles_of(self, name: str) -> list[str]:
        """List the roles that one name has."""
        return [role for role, theirs in self.of.items() if theirs == name]


def assign(
    part: Part, asked: Mapping[str, str], ignored: Collection[str] = (), score: str | None = None
) -> Roles:
    """Give the names in a run's rows their roles.

    Args: asked: role -> name, as a person says it; only names that are there. ignored: names that
        are nothing. score: the score that is asked for.
    """
    present = [name for name in part.names() if name not in ignored]
    found = Roles()
    if is_ours(present):  # every known name means itself
        found.of = {name: name for name in present if name in KNOWN}
    found.of |= {name: name for name in present if name in _EXACT}
    found.of |= {role: name for name, role in part.roles.items() if name in present}
    for role, name in asked.items():
        found.of = {r: n for r, n in found.of.items() if n != name or r in asked}
        if name in present:
            found.of[role] = name
    free = [name for name in present if not found.roles_of(name)]
    _clock(part, free, found)
    for role, is_role in (("seed", names.is_seed), ("num_val", names.is_size)):
        _take(role, [name for name in free if is_role(name)], found)
    ranked = [(rank, name) for name in free if (rank := names.trial_rank(name)) is not None]
    _take(TRIAL, [name for _, name in sorted(ranked)], found)
    _Metrics(part, free, found, score).settle()
    return found


def _take(role: str, candidates: Sequence[str], found: Roles) -> None:
    if candidates and role not in found.of:
        found.of[role] = candidates[0]


def _clock(part: Part, free: Sequence[str], found: Roles) -> None:
    """Epochs and steps: of several names, the one that most rows have."""
    counts = {name: sum(_is_number(row.get(name)) for row in part.rows) for name in free}

    def fullest(candidates: list[str]) -> list[str]:
        return sorted((name for name in candidates if counts[name]), key=lambda n: -counts[n])

    _take("epoch", fullest([name for name in free if names.is_epoch(name)]), found)
    _take(STEP, fullest([name for name in free if names.is_step(name)]), found)
    if "epoch" not in found.of and STEP not in found.of:
        # The index that pandas writes has no name.
        _take(STEP, [name for name in free if name == "" or name.startswith("Unnamed")], found)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class _Metrics:
    """Settles which of a run's metrics is which."""

    def __init__(
        self, part: Part, free: Sequence[str], found: Roles, score: str | None = None
    ) -> None:
        self.found, self.wanted = found, score
        self.said: dict[str, Meaning] = {}
        self.rows: dict[str, set[int]] = {}
        for name in free:
            meaning = names.meaning(name)
            numbers = {n for n, row in enumerate(part.rows) if _is_number(row.get(name))}
            if name in found.of.values() or meaning is None or not numbers:
                continue
            self.rows[name] = numbers
            self.said[name] = meaning._replace(stage=meaning.stage or part.stage)
        found.metrics = {*self.said, *(n for n in free if names.meaning(n))}
        self.is_printed = part.tool == PRINTED

    def named(self, *quantities: str, stage: str | None = None) -> list[str]:
        """List the names of some quantities at one stage, the plainest first."""
        some = [
            name
            for name, said in self.said.items()
            if said.quantity in quantities and said.stage == stage
        ]
        return sorted(some, key=self.rank)

    def rank(self, name: str) -> tuple[bool, bool, int, bool, int]:
        said, count = self.said[name], len(self.rows[name])
        return count < 2, said.stepwise, said.extras, said.quantity == ERROR, -count

    def settle(self) -> None:
        """Give every role its name, and list what is not settled."""
        if STEP not in self.found.of or "val_accuracy" not in self.found.of:
            self._stages()
        for role, quantities, test_too in (
            ("val_accuracy", (ACCURACY, ERROR), True),
            ("val_loss", (LOSS,), True),
        ):
            self._validation(role, quantities, test_too=test_too)
        self._scores()
        for role, quantities in (
            ("train_accuracy_running", (ACCURACY, ERROR)),
            ("train_loss_running", (LOSS,)),
        ):
            mode = role.removesuffix("_running")
            if mode not in self.found.of:
                _take(role, self.named(*quantities, stage=names.TRAIN), self.found)
        rates = [name for name in self.said if self.said[name].quantity == RATE]
        rates = [n for n in rates if not set(names.words_of(n)) & names.words("constant")]
        _take("learning_rate", sorted(rates, key=lambda n: self.said[n].extras > 1), self.found)
        for name in self.found.of.values():
            if name in self.said and self.said[name].quantity == ERROR:
                self.found.errors.add(name)

    def _set(self, some: Sequence[str], stage: str) -> None:
        for name in some:
            self.said[name] = self.said[name]._replace(stage=stage)

    def _stages(self) -> None:
        """The stage of what has none, by what stands beside it."""
        plain_acc, plain_loss = self.named(ACCURACY, ERROR), self.named(LOSS)
        val, train = names.VALIDATION, names.TRAIN
        held = (val, names.TEST)
        has_val_acc = "val_accuracy" in self.found.of or any(
            self.named(ACCURACY, ERROR, stage=stage) for stage in held
        )
        has_val_loss = "val_loss" in self.found.of or any(
            self.named(LOSS, stage=stage) for stage in held
        )
        has_train = bool(self.named(ACCURACY, LOSS, stage=train))
        beside = [
            name
            for name in plain_acc
            if any(len(self.rows[name] & self.rows[loss]) > 1 for loss in plain_loss)
        ]
        apart = [name for name in plain_acc if name not in beside]
        if has_val_acc:
            self._set(plain_acc, train)
        elif has_train:  # `train_loss`, `accuracy`: the other set
            self._set(plain_acc, val)
            self._set(plain_loss if not has_val_loss else [], val)
        elif (
            has_val_loss
        ):  # `loss`, `accuracy`, `val_loss` are Keras'; `valid_loss`, `accuracy` not
            self._set(beside, train)
            self._set(apart, val)
        elif apart:  # no line of training holds it
            self._set(apart, val)
            self._set(beside, train)
            if not plain_loss:
                self.found.notes.append(
                    f"nothing says whether {apart[0]!r} is of training or of validation: taken for "
                    f"validation. If it is not: --column train_accuracy={apart[0]}"
                )
        elif beside and self.is_printed:
            self._set(beside, val)
            self.found.notes.append(
                f"nothing says whether {beside[0]!r} is of training or of validation: taken for "
                f"validation. If it is not: --column train_accuracy={beside[0]}"
            )
        elif beside:
            self.found.unsettled["val_accuracy"] = beside
        self._set([name for name in plain_loss if self.said[name].stage is None], train)

    def _validation(self, role: str, quantities: tuple[str, ...], *, test_too: bool) -> None:
        if role in self.found.of:
            return
        some = self.named(*quantities, stage=names.VALIDATION)
        tests = self.named(*quantities, stage=names.TEST)
        if (not some or len(self.rows[some[0]]) < 2) and tests and len(self.rows[tests[0]]) > 1:
            some = tests
            self.found.notes.append(f"the test set's {tests[0]!r} is taken for validation's")
        if not some:
            return
        first = self.rank(some[0])[:3]
        equal = [name for name in some if self.rank(name)[:3] == first]
        if len(equal) > 1 and self.said[some[0]].extras and role == "val_loss":
            self.found.unsettled[role] = equal  # box, class and mask: none is the loss
            return
        self.found.of[role] = some[0]
        if len(equal) > 1:
            others = ", ".join(map(repr, equal[1:4]))
            self.found.notes.append(
                f"{some[0]!r} is taken; {others} may be meant, too: --column {role}=NAME"
            )

    def _scores(self) -> None:
        """Every score of the validation set; the first of the main ones gets the role."""
        held = [name for name in self.said if self.said[name].quantity == SCORE]
        val = [name for name in held if self.said[name].stage == names.VALIDATION]
        taken = {self.said[name].word for name in val}
        for stage in (None, names.TEST):
            more = [name for name in held if self.said[name].stage == stage]
            val += [name for name in more if self.said[name].word not in taken]
        order = {name: place for place, name in enumerate(self.said)}
        last = names.words("secondary")
        val = [name for name in val if len(self.rows[name]) > 1]
        val.sort(key=lambda n: (n != self.wanted, self.said[n].word in last, order[n]))
        self.found.scores = [
            Score(name, self.said[name].word, names.lower_is_better(self.said[name].word))
            for name in val
        ]
        if asked := self.found.of.get(SCORE_ROLE):
            said = names.meaning(asked)
            word = said.word if said and said.quantity == SCORE else "score"
            self.found.scores.insert(0, Score(asked, word, names.lower_is_better(word)))
        # Beside an accuracy a score is told, and taken where a person asks for it.
        if "val_accuracy" not in self.found.of or self.wanted in val:
            _take(SCORE_ROLE, val, self.found)


def is_ours(present: Collection[str]) -> bool:
    """Tell whether names are those of a tidy frame, and not Ray Tune's, with a trial_id, too."""
    judged = not set(JUDGED).isdisjoint(present)
    return set(REQUIRED) <= set(present) and judged and "training_iteration" not in present
