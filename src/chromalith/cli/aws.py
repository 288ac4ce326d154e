"""``chromalith aws``: a deployed stack, from outside: whether it works, and how it is."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from chromalith.aws.functions import Functions
from chromalith.aws.stack import ALIAS, QUEUE, Stack, caller, stack
from chromalith.cli.aws_state import ALARM_PREFIX, print_state, state
from chromalith.cli.failures import DIFFERENCES
from chromalith.cli.invocation import Invocation, accept_shared, command
from chromalith.cli.smoke import Different, Smoke
from chromalith.clock import SYSTEM_CLOCK
from chromalith.wiring import open_session

StackName = Annotated[str, typer.Option("--stack", help="The stack, as for `pulumi stack select`.")]
Producer = Annotated[str | None, typer.Option("--producer", metavar="NAME", help="The producer's name; else chromadb-producer-STACK.")]
Compactor = Annotated[str | None, typer.Option("--compactor", metavar="NAME", help="The compactor's; else chromadb-compactor-STACK.")]
Query = Annotated[str | None, typer.Option("--query", metavar="NAME", help="The query function's; else chromadb-query-STACK.")]
Bucket = Annotated[str | None, typer.Option("--bucket", metavar="NAME", help="The bucket's; else chromadb-vectors-STACK-ACCOUNT.")]
QueueName = Annotated[str, typer.Option("--queue", metavar="NAME", help="The queue's.")]
Alias = Annotated[str, typer.Option("--alias", help="Which version of the functions: an alias, or $LATEST.")]
_SIGNS = {"done": "✓ done", "failed": "✗ failed", "left_out": "– left out"}


def declare(app: typer.Typer) -> None:
    """Add ``aws`` to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Try out and look at a stack on AWS.", rich_markup_mode="rich")
    accept_shared(group, _group)
    _declare_smoke(group)
    _declare_status(group)
    app.add_typer(group, name="aws")


def _group() -> None:
    """Try out and look at a stack on AWS."""


def _declare_smoke(group: typer.Typer) -> None:
    @command(group, "smoke")
    def smoke(
        run: Invocation,
        stack_name: StackName = "dev",
        producer: Producer = None,
        compactor: Compactor = None,
        query: Query = None,
        bucket: Bucket = None,
        queue: QueueName = QUEUE,
        alias: Alias = ALIAS,
        collection: Annotated[
            str | None, typer.Option("--collection", metavar="NAME", help="Of the test's own; a new name if not given. It must not exist.")
        ] = None,
        keep: Annotated[bool, typer.Option("--keep", help="Do not delete the collection at the end.")] = False,
    ) -> None:
        r"""Try out a deployed stack: the producer writes, the delta is in the bucket, the compactor folds it, the query function finds it.

        It works in a collection of its own, made and deleted with the caller's rights. Exit code 4: something answered, but not as it must.

        \b
        Example:
          chromalith aws smoke --stack dev
          chromalith aws smoke --stack prod --region eu-central-1 --json
        """
        who = caller(run.storage_options)
        functions = {"producer": producer, "compactor": compactor, "query": query}
        named = stack(stack_name, who.account, functions=functions, alias=_alias(alias), bucket=bucket, queue=queue)
        test = _smoked(run, named, collection or f"smoke-{SYSTEM_CLOCK.random_hex(12)}", keep)
        shown = {
            "ok": test.error is None,
            "stack": named.name,
            "account": who.account,
            "caller": who.arn,
            "region": who.region,
            "store": test.session.store.url,
            "collection": test.collection,
            "left": test.left,
            "error": None if test.error is None else {"message": test.error.message, "hint": test.error.hint},
            "steps": [{"step": s.name, "result": s.result, "seconds": round(s.seconds, 3), "what": s.what} for s in test.steps],
        }
        run.output.data(shown, lambda: _print(run, shown))
        if test.left is not None:
            run.output.say(test.left)
        _end(run, test)


def _declare_status(group: typer.Typer) -> None:
    @command(group, "status")
    def status(
        run: Invocation,
        stack_name: StackName = "dev",
        producer: Producer = None,
        compactor: Compactor = None,
        query: Query = None,
        queue: QueueName = QUEUE,
        alias: Alias = ALIAS,
        alarm_prefix: Annotated[str, typer.Option("--alarm-prefix", help="What the alarms' names begin with.")] = ALARM_PREFIX,
    ) -> None:
        r"""Show which versions of a stack's functions answer, how many messages wait, its alarms, and when something was last folded.

        Exit code 4: an alarm rings, or messages are in the dead-letter queue.

        \b
        Example:
          chromalith aws status --stack dev
          chromalith aws status --stack prod --json
        """
        who = caller(run.storage_options)
        functions = {"producer": producer, "compactor": compactor, "query": query}
        named = stack(stack_name, who.account, functions=functions, alias=_alias(alias), queue=queue)
        shown = {"stack": named.name, "account": who.account, "region": who.region, **state(named, alarm_prefix, run.storage_options)}
        run.output.data(shown, lambda: print_state(run.output, shown))
        if not shown["ok"]:
            raise typer.Exit(DIFFERENCES)


def _smoked(run: Invocation, named: Stack, collection: str, keep: bool) -> Smoke:
    functions = Functions(run.storage_options)
    url = run.store or f"s3://{named.bucket}"
    with (
        closing(open_session(url, storage_options=run.storage_options, queue_url="")) as session,
        run.output.progress("smoke") as advance,
    ):
        test = Smoke(
            session,
            functions,
            named,
            (run.tenant, run.database),
            collection,
            run.storage_options,
            lambda text: advance(text=text),
        )
        test.run(keep=keep)
    return test


def _alias(given: str) -> str | None:
    return None if given == "$LATEST" else given


def _print(run: Invocation, shown: dict[str, Any]) -> None:
    columns = ("step", "result", "seconds", "what")
    run.output.table(columns, [(s["step"], _SIGNS[s["result"]], f"{s['seconds']:.1f}", s["what"]) for s in shown["steps"]])
    run.output.line()
    verdict = "the stack works" if shown["ok"] else "the stack does not work"
    run.output.line(f"{verdict}: stack {shown['stack']}, account {shown['account']}, region {shown['region']}, {shown['store']}")


def _end(run: Invocation, test: Smoke) -> None:
    """The exit code, and the reason with its hint on stderr."""
    if isinstance(test.error, Different):
        run.output.say(f"hint: {test.error.hint}")
        raise typer.Exit(DIFFERENCES)
    if test.error is not None:
        raise test.error
