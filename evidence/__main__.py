"""python -m evidence COMMAND, in the repository's folder. Commands say what they take with --help."""
import argparse
import importlib
import sys

COMMANDS = {
    "paint": "paint the rows of one model and keep what the judge sees",
    "cost": "measure what each method costs beside base",
    "tables": "write RESULTS.md from what is kept",
    "figures": "draw the figures from what is kept; needs matplotlib",
    "strips": "paint the strips of pictures",
    "real": "paint, judge and tabulate by a workflow of a real model",
}


def main():
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in sys.argv[1:2]:  # the others may need what is not there
            module = importlib.import_module(f".{name}", __package__)
            command.description = module.__doc__
            module.add_arguments(command)
    options = parser.parse_args()
    module.main(options)


if __name__ == "__main__":
    main()
