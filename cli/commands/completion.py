"""`jobsup completion`: what makes a shell complete our words."""

from __future__ import annotations

import click

from ..client import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion of commands, flags, ids and names for a shell.

    \b
    bash: jobsup completion bash > /etc/bash_completion.d/jobsup
    zsh:  jobsup completion zsh > "${fpath[1]}/_jobsup"
    fish: mkdir -p ~/.config/fish/completions
          jobsup completion fish > ~/.config/fish/completions/jobsup.fish
    A shell that is started from then on has it.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, "click has had these three since it has completion"
    made = kind(ctx.find_root().command, {}, "jobsup", "_JOBSUP_COMPLETE")
    if shell == "bash":
        # Its `source` asks the bash that is installed here for its version.
        script = made.source_template % made.source_vars()
        # Where we know of no word bash's own way is better than none: variables, files.
        click.echo(script.replace("-o nosort", "-o nosort -o bashdefault -o default"))
    else:
        # A comma in what is told of a word is none between two fields.
        click.echo(made.source().replace('string split ","', 'string split -m 1 ","'))
