"""What each phase of the migration guide asks to verify, answered from evidence. Pure."""

from __future__ import annotations

from collections.abc import Callable

from chromalith.migrate.evidence import criteria
from chromalith.migrate.evidence.criteria import AGREEMENT_MIN, READS_MIN, SCAN, SHADOW, VERIFY
from chromalith.migrate.evidence.gather import Evidence
from chromalith.migrate.evidence.item import Item, Outcome, Question
from chromalith.migrate.evidence.moments import moment
from chromalith.migrate.evidence.timeline import reached, verbs
from chromalith.migrate.phases import Phase
from chromalith.migrate.port import Role

_STACK = "on AWS, give --stack NAME, and try the stack out with `chromalith aws smoke --stack NAME`"


def infrastructure(e: Evidence) -> Item:
    """Phase 1."""
    q = Question("infrastructure", 1, "Bucket, queue, functions and schedule are there, and answer")
    if e.stack is None:
        return q.no_evidence("nobody looked at a stack", todo=_STACK)
    broken = [f"{part.name}: {part.problem}" for part in e.stack if part.problem is not None]
    whole = [part.name for part in e.stack if part.problem is None]
    said = [f"answering: {', '.join(whole)}"] if whole else []
    if broken:
        return q.not_met(*said, *broken, todo="deploy the stack (docs/aws.md)")
    return q.met(*said)


def clients(e: Evidence) -> Item:
    """Phase 2."""
    q = Question("clients", 2, "The application opens its clients through the migration")
    if not e.producers:
        return q.no_evidence("no client was ever seen", todo="open it with chromalith.MigratingClient, and let it run")
    hosts = {each.host for each in e.producers}
    apps = sorted({each.app or each.id for each in e.producers})
    return q.met(
        f"{len(e.producers)} clients in {e.processes} processes on {len(hosts)} machines were seen: {', '.join(apps[:8])}"
    )


def scanned(e: Evidence) -> Item:
    """Phase 2."""
    q = Question("scanned", 2, "The code was looked through for direct uses of Chroma")
    if e.scan is None:
        return q.no_evidence("no scan was recorded", todo=SCAN)
    if not any(each.found.get("files") for each in e.scans):
        return q.no_evidence("no file of code was there", todo=SCAN)
    return q.met(
        f"{len(e.scans)} scans were recorded, the last {moment(e.scan.at_us)}; what it found is criterion `code`"
    )


def dual(e: Evidence) -> Item:
    """Phase 3."""
    q = Question("dual", 3, "Both systems get every write")
    change = reached(e.state, Phase.DUAL)
    if change is None:
        return q.not_met(f"the phase is {e.state.phase}, and was never dual", todo="`chromalith migrate dual`")
    if not e.state.is_dual and e.state.phase is not Phase.COMPLETE:
        return q.not_met(
            f"the phase is {e.state.phase}: it was dual from {moment(change.at_us)}", todo="`chromalith migrate dual`"
        )
    said = f"since {moment(change.at_us)}"
    both = sum(min(each.writes.get("source", 0), each.writes.get("target", 0)) for each in e.producers)
    if not both:
        return q.no_evidence(said, "no client has told of a write to both sides", todo="let the application write")
    failures = sum(each.second_failures for each in e.producers)
    return q.met(
        said,
        f"{both:,} calls wrote to both sides in all",
        f"{failures:,} failed on the second side, and were noted to be repaired",
    )


def repaired(e: Evidence) -> Item:
    """Phase 3."""
    q = Question("repaired", 3, "Nothing that failed on one side waits to be repaired")
    if reached(e.state, Phase.DUAL) is None:
        return q.no_evidence("both sides were never written", todo="`chromalith migrate dual`")
    if e.lag is None:
        return q.no_evidence("the journal could not be read", todo="`chromalith migrate status` says why")
    waits, told = criteria.waiting(e.lag, e.state.phase)
    if waits:
        return q.not_met(told, todo=criteria.RECONCILE)
    return q.met(told)


def copied(e: Evidence) -> Item:
    """Phase 3."""
    q = Question("copied", 3, "What was there before is copied")
    found = e.state.backfill
    if not found:
        return q.no_evidence("no backfill has run", todo="`chromalith migrate backfill`")
    if not found.get("finished"):
        return q.not_met("the backfill has not finished", todo="`chromalith migrate backfill` goes on where it stopped")
    if rejected := int(found.get("rejected", 0)):
        return q.not_met(
            f"{rejected:,} records can't be taken by the target",
            todo="`chromalith migrate status --json` names them: change or delete them",
        )
    records = next((found[name] for name in ("records", "copied", "total") if isinstance(found.get(name), int)), None)
    return q.met("the backfill has finished" + ("" if records is None else f": {records:,} records"))


def agreement(e: Evidence) -> Item:
    """Phases 3 and 5: the guide wants a similarity above 0.95 of some queries; this is of the application's own."""
    q = Question("agreement", 3, "Queries of the application give the same answers on both systems")
    total = e.shadow.total
    if total.judged < READS_MIN or total.agreement is None:
        return q.no_evidence(f"{total.judged:,} reads were compared, and {READS_MIN} are needed", todo=SHADOW)
    said = (
        f"{total.judged:,} reads were compared, {100 * total.agreement:.2f} % agree; {AGREEMENT_MIN:.0%} are wanted",
        f"{total.mismatches:,} mismatches, {total.unchecked:,} not checked again, {total.errors:,} errors, {total.timeouts:,} too slow",
        f"{total.dropped:,} were never asked",
    )
    if total.agreement < AGREEMENT_MIN:
        return q.not_met(*said, todo="`chromalith migrate shadow` shows them")
    lately = e.shadow.lately
    if 1 - lately.rate < AGREEMENT_MIN:
        worse = f"of the latest {lately.judged:,} only {100 * (1 - lately.rate):.2f} % agree"
        return q.not_met(*said, worse, todo="`chromalith migrate shadow` shows them")
    return q.met(*said)


def gradual(e: Evidence) -> Item:
    """Phase 3."""
    q = Question("gradual", 3, "Traffic was shifted gradually")
    dual = reached(e.state, Phase.DUAL)
    since = 0 if dual is None else dual.epoch  # what came before was taken back
    ramps = [change for change in verbs(e.state, "ramp") if change.epoch > since]
    shifted = [change for change in ramps if _shares(change.before) != _shares(change.after)]
    if shifted:
        return q.met(f"{len(shifted)} steps: {'; '.join(change.after for change in shifted[-5:])}")
    if e.state.phase in criteria.CUT_OVER:
        return q.not_met(
            "it was switched at once, without a ramp",
            todo="nothing: it is done; `chromalith migrate rollback` leads back, before complete",
        )
    return q.no_evidence("no ramp yet", todo="`chromalith migrate ramp --reads 5`")


def _shares(phase: str) -> str:
    """The target's parts of reads and writes, as the audit log writes them; shadow reads shift no traffic."""
    told = [word for word in phase.split() if word.startswith(("reads=", "writes="))]
    return " ".join(told) or "reads=0 writes=0"


def reads(e: Evidence) -> Item:
    """Phase 4."""
    q = Question("reads", 4, "Queries are answered by the target")
    answered = {role: sum(each.reads.get(str(role), 0) for each in e.producers) for role in Role}
    percent = (
        100.0 if e.state.phase in criteria.CUT_OVER else e.state.percent.reads if e.state.phase is Phase.RAMP else 0.0
    )
    said = f"{percent:g} % now; so far the source answered {answered[Role.SOURCE]:,} reads, the target {answered[Role.TARGET]:,}"
    if percent < 100:
        return q.not_met(said, todo="`chromalith migrate ramp --reads 100`, or `switch`")
    if not answered[Role.TARGET]:
        return q.no_evidence(said, todo="let the application read")
    return q.met(said)


def switched(e: Evidence) -> Item:
    """Phase 5."""
    q = Question("switched", 5, "The target is the authority")
    change = reached(e.state, Phase.CUTOVER)
    if e.state.phase not in criteria.CUT_OVER or change is None:
        return q.not_met(f"the phase is {e.state.phase}", todo="`chromalith migrate switch`")
    note = f" ({change.note})" if change.note else ""
    return q.met(f"switched {moment(change.at_us)} by {change.who}{note}")


def counts(e: Evidence) -> Item:
    """Phase 5: the guide allows a hundred; this allows none."""
    q = Question("counts", 5, "Both systems hold the same records: counts and contents, exactly")
    problem = criteria.verified(e)
    if problem is None:
        return q.met(criteria.compared(e), "no record missing, extra or different")
    if problem[0] is Outcome.NO_EVIDENCE:
        return q.no_evidence(problem[1], todo=VERIFY)
    return q.not_met(criteria.compared(e), problem[1], todo=f"{VERIFY} --repair")


def completed(e: Evidence) -> Item:
    """Phase 6."""
    q = Question("completed", 6, "The source is let go")
    change = reached(e.state, Phase.COMPLETE)
    if e.state.phase is not Phase.COMPLETE or change is None:
        return q.not_met(
            f"the phase is {e.state.phase}: the source still gets every write",
            todo="`chromalith migrate complete --yes`",
        )
    return q.met(f"completed {moment(change.at_us)} by {change.who}")


def cleaned(e: Evidence) -> Item:
    """Phase 6."""
    q = Question("cleaned", 6, "No client code that bypasses the migration is left, reading code included")
    if e.scan is None:
        return q.no_evidence("no scan was recorded", todo=SCAN)
    change = reached(e.state, Phase.COMPLETE)
    old = [each for each in e.last_scans if change is None or each.at_us < change.at_us]
    if old:
        root = old[0].found.get("root")
        return q.no_evidence(f"{root} was not scanned since the migration was completed", todo=SCAN)
    if not all(each.found.get("files") for each in e.last_scans):
        return q.no_evidence("no file of code was there", todo=SCAN)
    left = sum(int(each.found.get(name, 0)) for each in e.last_scans for name in ("errors", "warnings", "unreadable"))
    roots = ", ".join(str(each.found.get("root")) for each in e.last_scans)
    said = f"{left} uses are left in {roots}, scanned {moment(e.scan.at_us)}"
    return q.not_met(said, todo="remove them: `chromalith migrate scan PATH` lists them") if left else q.met(said)


STEPS: tuple[Callable[[Evidence], Item], ...] = (
    infrastructure, clients, scanned, dual, repaired, copied, agreement, gradual, reads, switched, counts, completed, cleaned,
)  # fmt: skip


def checklist(e: Evidence) -> list[Item]:
    """All of it: the criteria of success, then the steps by phase."""
    return [ask(e) for ask in (*criteria.CRITERIA, *STEPS)]
