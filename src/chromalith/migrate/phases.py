"""The phases of a migration, the verbs that lead from one to another, and what each phase means for reads and writes.

    direct ── dual ── backfill ── verify ── ramp ── cutover ── complete
       └────── rollback: back to direct, from everything before complete ──────┘        cancel: the end, before cutover

*Authority* is the side whose answer counts: it is written first, its failure is the caller's, and repairs go from it to the other.
A change of authority needs a freeze (:mod:`chromalith.migrate.workflow`); no other change does.

After Vitess' MoveTables (phases, the reverse stream after the switch, ``complete`` as the only verb that lets go of the source).
"""

from __future__ import annotations

from enum import StrEnum

from chromalith.errors import Invalid


class Phase(StrEnum):
    """Where a migration stands."""

    DIRECT = "direct"
    """Reads and writes go to the source. So does a client whose migration has not been started."""
    DUAL = "dual"
    """Writes go to the source, then the target; what is written is noted in the journal."""
    BACKFILL = "backfill"
    """As dual, while what was there before is copied."""
    VERIFY = "verify"
    """As dual; the copy is whole, and the two sides are compared. Shadow reads are allowed from here on."""
    RAMP = "ramp"
    """A part of the reads goes to the target, and the target is the authority of a part of the ids."""
    CUTOVER = "cutover"
    """The target is the authority and answers all reads; the source still gets every write."""
    COMPLETE = "complete"
    """The source is let go. The end."""
    CANCELLED = "cancelled"
    """Given up before the cutover: as direct. The end."""


DUAL_PHASES = frozenset({Phase.DUAL, Phase.BACKFILL, Phase.VERIFY, Phase.RAMP, Phase.CUTOVER})
"""Phases in which both sides get every write."""

ENDED = frozenset({Phase.COMPLETE, Phase.CANCELLED})


class Verb(StrEnum):
    """What a person asks for; the names of the commands."""

    START = "start"
    DUAL = "dual"
    BACKFILL = "backfill"
    VERIFY = "verify"
    RAMP = "ramp"
    SWITCH = "switch"
    COMPLETE = "complete"
    ROLLBACK = "rollback"
    CANCEL = "cancel"


LEGAL: dict[Verb, dict[Phase, Phase]] = {
    Verb.DUAL: {Phase.DIRECT: Phase.DUAL, Phase.DUAL: Phase.DUAL},
    Verb.BACKFILL: {Phase.DUAL: Phase.BACKFILL, Phase.BACKFILL: Phase.BACKFILL, Phase.VERIFY: Phase.BACKFILL},
    Verb.VERIFY: {phase: Phase.VERIFY if phase is Phase.BACKFILL else phase for phase in DUAL_PHASES - {Phase.DUAL}},
    Verb.RAMP: {Phase.VERIFY: Phase.RAMP, Phase.RAMP: Phase.RAMP},
    Verb.SWITCH: {Phase.VERIFY: Phase.CUTOVER, Phase.RAMP: Phase.CUTOVER},
    Verb.COMPLETE: {Phase.CUTOVER: Phase.COMPLETE},
    Verb.ROLLBACK: dict.fromkeys(DUAL_PHASES | {Phase.DIRECT}, Phase.DIRECT),
    Verb.CANCEL: dict.fromkeys((DUAL_PHASES | {Phase.DIRECT}) - {Phase.CUTOVER}, Phase.CANCELLED),
}
"""For each verb, the phases it may be used in and the phase that it leads to."""


def legal_verbs(phase: Phase) -> list[Verb]:
    """What may be done in ``phase``, in the order of the phases."""
    return [verb for verb, ways in LEGAL.items() if phase in ways]


def after(verb: Verb, phase: Phase) -> Phase:
    """The phase that ``verb`` leads to. Raises ``Invalid`` that names the legal verbs."""
    if phase not in LEGAL[verb]:
        legal = legal_verbs(phase)
        hint = (
            f"legal here: {', '.join(legal)}"
            if legal
            else "this migration has ended; start another with its own --name"
        )
        raise Invalid(f"`{verb}` is not possible in this phase phase={phase}", hint=hint)
    return LEGAL[verb][phase]
