"""What people see on a terminal. The only room that knows rich."""

from idl_cli.console.figures import duration as duration
from idl_cli.console.figures import figures as figures
from idl_cli.console.terminal import Console as Console
