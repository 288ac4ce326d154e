"""The scheduler: real code in actors that run one at a time, and chance that decides who goes next and what goes wrong.

Each actor's life is a thread, but no two ever run at once: a thread runs only while it holds the baton. Before every
store call, and in every sleep, it parks and hands the baton back. The scheduler lets time pass, picks a parked
process, decides what becomes of its call, and hands it the baton. Every draw comes from one seed, so one seed is one
history, call by call; :class:`Trace` has the proof.

What can become of a call: nothing; it fails before it was applied; it is applied and the reply is lost; the reply is
lost and it is applied later, perhaps after its sender died; it is applied, and later once more; the process dies
before it, after it, or with it still on its way; the process stalls before it or after it, for seconds or for longer
than any lease. A process that died starts again later, as a new life of its actor: with nothing in memory, and with
another error of its clock.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from chromalith.clock import Chance
from chromalith.errors import ChromalithError, Unavailable, Unknown
from chromalith.testing.faulty import WRITES, Crash
from chromalith.testing.history import SECOND_US, Violation
from chromalith.testing.simulator.weather import Fate, Weather

Result = TypeVar("Result")

STEPS_MAX = 4_000
"""A history that has not come to its end by then never does: ten times what the longest ones take."""

IN_FLIGHT_MAX_US = 29 * 86_400 * SECOND_US
"""No request is in flight for longer: the first of the protocol's three timing assumptions, with a day to spare."""
AT_REST = ("sleep", "begin")


class Trace:
    """What happened, line by line, and a digest of all of it: two histories are the same if their digests are."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._digest = hashlib.sha256()

    def add(self, line: str) -> None:
        self.lines.append(line)
        self._digest.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


class Actor(Protocol):
    """Somebody who works on the store, through as many lives as it takes."""

    name: str

    def live(self, life: Life) -> None:
        """Work until there is nothing left to do. What must survive a death is kept in the actor, what must not in this call."""
        ...


@dataclass(slots=True, eq=False)
class Life:
    """One life of an actor: what an operating system calls a process.

    Attributes:
        skew_us: the error of its clock.
        call: what its workload is doing, for the record of what is written.
    """

    schedule: Schedule
    actor: Actor
    number: int
    chance: Chance
    wake_us: int
    skew_us: int
    call: object = None
    parked: tuple[str, str] = ("begin", "")
    issued_us: int = 0
    fate: Fate = Fate.DONE
    dead: bool = False
    ended: bool = False
    begun: bool = False
    gate: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return f"{self.actor.name}.{self.number}"

    # -- on the life's own thread ------------------------------------------------------------------------------------------

    def call_store(self, verb: str, key: str, request: Callable[[], Result]) -> Result:
        """Make a request of the store when the scheduler says so, and suffer what it decided."""
        fate = self._park(verb, key, 0)
        issued_us = self.issued_us
        match fate:
            case Fate.BEFORE:
                raise Unavailable(f"simulated: failed before it was applied verb={verb} key={key}")
            case Fate.CRASH_BEFORE:
                raise self._die()
            case Fate.LATE | Fate.CRASH_LATE if verb in WRITES:
                self.schedule.late.append(_Late(f"{self.name} {verb} {key}", issued_us, request))
            case Fate.CRASH_AFTER | Fate.CRASH_LATE:
                self._lose(request, issued_us)
            case Fate.LOST | Fate.LATE:
                self._lose(request, issued_us)
            case _:
                result = self.schedule.apply(request, issued_us)
                if fate is Fate.TWICE and verb in WRITES:  # somebody between here and the store sends it again
                    self.schedule.late.append(_Late(f"{self.name} {verb} {key} again", issued_us, request))
                if fate is Fate.STALL_AFTER:
                    self._park("stall", key, self.schedule.stall_us())
                return result
        if fate in (Fate.CRASH_AFTER, Fate.CRASH_LATE):
            raise self._die()
        # A lost reply hides success and failure alike, so the error is the same whatever the store answered.
        lost = Unknown if verb in ("put", "copy") else Unavailable
        raise lost(f"simulated: the reply was lost verb={verb} key={key}")

    def sleep(self, seconds: float) -> None:
        """Wait; others run meanwhile."""
        if self._park("sleep", f"{seconds:.3f}", round(seconds * SECOND_US)) in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER):
            raise self._die()

    def _park(self, verb: str, key: str, wait_us: int) -> Fate:
        if self.dead:
            raise Crash(self.name)
        self.parked, self.issued_us = (verb, key), self.schedule.now_us
        self.wake_us = self.schedule.now_us + wait_us
        self.schedule.baton.release()
        self.gate.acquire()
        if self.dead:
            raise Crash(self.name)
        return self.fate

    def _lose(self, request: Callable[[], object], issued_us: int) -> None:
        try:
            self.schedule.apply(request, issued_us)
        except ChromalithError as error:
            self.schedule.trace.add(f"  lost: {error.kind}")

    def _die(self) -> Crash:
        self.dead = True
        return Crash(self.name)

    def run(self) -> None:
        """The life from its first breath: the thread's body."""
        self.gate.acquire()
        try:
            if not self.dead:
                self.actor.live(self)
                self.ended = True
        except Crash:
            pass
        except Violation as violation:
            self.schedule.violation = violation
        except BaseException as error:  # whatever it is, the history failed by it, and the scheduler says so
            self.schedule.violation = unexpected(self.name, error)
        finally:
            self.dead = True
            self.schedule.baton.release()


def unexpected(name: str, error: BaseException) -> Violation:
    """An error that no actor may meet, as a violation."""
    violation = Violation(f"{name} met {type(error).__name__}: {error}")
    violation.__cause__ = error
    return violation


@dataclass(frozen=True, slots=True)
class _Late:
    """A request whose reply was given up, and which is still on its way."""

    text: str
    issued_us: int
    request: Callable[[], object]


class Schedule:
    """Runs actors to their end on one store. See the module's docstring.

    Args:
        seed: of everything.
        weather: what goes wrong.
        now_us: when it begins.
        skew_s: how wrong clocks of machines are, at most, seconds either way.
    """

    def __init__(self, seed: str, weather: Weather, now_us: int, *, skew_s: float = 0.0) -> None:
        self.seed = seed
        self.weather = weather
        self.now_us = now_us
        self.skew_s = skew_s
        self.chance = Chance(f"{seed}/schedule")
        self.trace = Trace()
        self.baton = threading.Lock()
        self.baton.acquire()
        self.late: list[_Late] = []
        self.violation: Violation | None = None
        self.issued_us = now_us
        """When the request that is being applied was sent: a store's timestamp lies between that and now."""
        self.steps = 0
        self._last: Life | None = None

    def run(self, actors: Sequence[Actor]) -> None:
        """Run every actor to its end. Raises ``Violation``."""
        lives = [self._born(actor, 0, self.now_us) for actor in actors]
        try:
            while lives:
                self.steps += 1
                if self.steps > STEPS_MAX:
                    raise Violation(f"the history does not come to an end calls={self.steps}")
                self._pass_time(lives)
                self._land_some()
                life = self._choose(lives)
                if life is not None:
                    self._give_baton(life)
                    if life.dead:
                        lives.remove(life)
                        if not life.ended and life.number + 1 < self.weather.lives:
                            lives.append(self._born(life.actor, life.number + 1, self.now_us + self._down_us()))
                if self.violation is not None:
                    raise self.violation
        finally:
            for life in lives:
                self._end(life)

    def land_all(self, probability: float) -> None:
        """Each late request lands now, or never."""
        waiting, self.late = self.late, []
        for late in waiting:
            if self.chance.random() < probability:
                self._land(late)

    def apply(self, request: Callable[[], Result], issued_us: int) -> Result:
        """Let a request have its effect now."""
        self.issued_us = issued_us
        try:
            result = request()
        except ChromalithError as error:
            self.trace.add(f"  -> {type(error).__name__}")
            raise
        except Violation as violation:
            self.violation = violation
            raise Crash("a violation") from violation
        self.trace.add(f"  -> {_shown(result)}")
        return result

    def stall_us(self) -> int:
        """How long a process that stalls does nothing."""
        return round(self.chance.uniform(0.1, self.weather.stall_s) * SECOND_US)

    # -- deciding --------------------------------------------------------------------------------------------------------

    def _pass_time(self, lives: Sequence[Life]) -> None:
        drawn, weather = self.chance.random(), self.weather
        if drawn < weather.far:
            # A process that stalls for days in the middle of a call is more than anybody promises to survive.
            seconds = self.chance.uniform(*weather.far_s) if all(life.parked[0] in AT_REST for life in lives) else 0.0
        elif drawn < weather.far + weather.leap:
            seconds = self.chance.uniform(5, 120)
        elif drawn > 1 - weather.pause:
            seconds = self.chance.uniform(0.3, 3)
        else:
            seconds = self.chance.uniform(0.001, weather.pace_s)
        self.now_us += 1 + round(seconds * SECOND_US)

    def _land_some(self) -> None:
        if self.late and self.chance.random() < self.weather.land:
            self._land(self.late.pop(self.chance.randrange(len(self.late))))
            if self.violation is not None:
                raise self.violation

    def _land(self, late: _Late) -> None:
        if self.now_us - late.issued_us > IN_FLIGHT_MAX_US:
            return
        self.trace.add(f"{self.now_us} late: {late.text}")
        try:
            self.apply(late.request, late.issued_us)
        except ChromalithError:
            pass
        except Crash:
            if self.violation is not None:
                raise self.violation from None

    def _choose(self, lives: Sequence[Life]) -> Life | None:
        """Who goes next, with its fate; ``None``: the one that would have, stalls."""
        ready = [life for life in lives if life.wake_us <= self.now_us]
        if not ready:
            self.now_us = min(life.wake_us for life in lives)
            ready = [life for life in lives if life.wake_us <= self.now_us]
        if self._last in ready and self.chance.random() < self.weather.stick:
            life = self._last
        else:
            life = ready[self.chance.randrange(len(ready))]
        assert life is not None
        if self.chance.random() < self.weather.stall and life.actor.name.startswith(self.weather.staller):
            life.wake_us = self.now_us + self.stall_us()
            if self.chance.random() < 0.2:
                life.skew_us = self.skew()  # somebody sets the clock
            self.trace.add(f"{self.now_us} {life.name} stalls before {life.parked[0]}")
            return None
        self._last = life
        life.fate = self._fate(life)
        return life

    def _fate(self, life: Life) -> Fate:
        if self.chance.random() >= self.weather.fault or not life.begun or self.weather.target not in life.parked[1]:
            return Fate.DONE
        fates = [fate for fate, _ in self.weather.weights]
        fate = self.chance.choices(fates, [weight for _, weight in self.weather.weights])[0]
        last = life.number + 1 >= self.weather.lives
        if last and fate in (Fate.CRASH_BEFORE, Fate.CRASH_AFTER, Fate.CRASH_LATE):
            return Fate.LOST  # an actor's last life comes to its end
        return fate

    def skew(self) -> int:
        """The error of a machine's clock, microseconds."""
        return round(self.chance.uniform(-self.skew_s, self.skew_s) * SECOND_US)

    def _down_us(self) -> int:
        return round(self.chance.choice((0.05, 2.0, 70.0)) * self.chance.random() * SECOND_US)

    # -- threads ---------------------------------------------------------------------------------------------------------

    def _born(self, actor: Actor, number: int, at_us: int) -> Life:
        chance = Chance(f"{self.seed}/{actor.name}/{number}")
        life = Life(self, actor, number, chance, at_us, self.skew())
        life.gate.acquire()
        threading.Thread(target=life.run, name=life.name, daemon=True).start()
        return life

    def _give_baton(self, life: Life) -> None:
        life.begun = True
        self.trace.add(f"{self.now_us} {life.name} {life.parked[0]} {life.parked[1]} {life.fate}")
        life.gate.release()
        self.baton.acquire()

    def _end(self, life: Life) -> None:
        if not life.dead:
            life.dead = True
            life.gate.release()
            self.baton.acquire()


def _shown(result: object) -> str:
    if isinstance(result, tuple):  # a page of a listing
        return f"{len(result[0])} entries"
    body = getattr(result, "body", result)
    if isinstance(body, bytes):
        return f"{len(body)} bytes {hashlib.sha256(body).hexdigest()[:8]}"
    return str(getattr(result, "etag", result))[:60]
