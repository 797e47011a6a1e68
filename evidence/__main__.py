"""python -m evidence COMMAND, in the repository's folder. Commands say what they take with --help."""
import argparse
import importlib

COMMANDS = {
    "paint": "paint the rows of one model and keep what the judge sees",
    "cost": "measure what each method costs beside base",
    "tables": "write RESULTS.md from what is kept",
    "figures": "draw the figures from what is kept; needs matplotlib",
    "strips": "paint the strips of pictures",
}


def main():
    parser = argparse.ArgumentParser(prog="python -m evidence", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    modules = {}
    for name, what in COMMANDS.items():
        modules[name] = importlib.import_module(f".{name}", __package__)
        modules[name].add_arguments(commands.add_parser(
            name, help=what, description=modules[name].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter))
    options = parser.parse_args()
    modules[options.command].main(options)


if __name__ == "__main__":
    main()
