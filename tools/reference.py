"""Writes the reference pages of the site, as Markdown: from openapi.yaml, from the proto file, and from `--help`.

tools/site.py calls it. Descriptions are those of the sources, word for word; this file adds headings and tables alone.
"""

import os
import re
import subprocess

import yaml


def cell(text):
    """Returns text for a cell of a table: on one line, with `<` escaped outside of code."""
    parts = re.sub(r"\s*\n\s*", " ", str(text)).strip().replace("|", "\\|").split("`")
    return "`".join(part if place % 2 else part.replace("<", "&lt;") for place, part in enumerate(parts))


def table(heads, rows):
    rows = [[cell(value) for value in row] for row in rows]
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n\n"


# OpenAPI


class Api:
    """The page of openapi.yaml."""

    def __init__(self, text):
        self.api = yaml.safe_load(text)
        self.schemas = self.api["components"]["schemas"]

    def follow(self, node):
        while "$ref" in node:
            *_, kind, name = node["$ref"].split("/")
            node = self.api["components"][kind][name]
        return node

    def kind(self, schema):
        """Returns the type of a schema, in words; names of schemas are links."""
        if "$ref" in schema:
            name = schema["$ref"].split("/")[-1]
            return f"[{name}](#{name.lower()})"
        several = [one for key in ("oneOf", "anyOf", "allOf") for one in schema.get(key, []) if one.get("type") != "null"]
        if several:
            return " or ".join(dict.fromkeys(self.kind(one) for one in several))
        values = [value for value in schema.get("enum", []) if value is not None]
        if values:
            return ", ".join(f"`{value}`" for value in values)
        if "const" in schema:
            return f"`{schema['const']}`"
        types = schema.get("type", "any")
        words = [name for name in ([types] if isinstance(types, str) else types) if name != "null"] or ["null"]
        if words == ["array"]:
            return f"list of {self.kind(schema.get('items', {}))}"
        limits = [f"{sign} {schema[key]}" for key, sign in LIMITS.items() if key in schema and abs(schema[key]) < 1 << 53]
        return ", ".join([" or ".join(words), *limits])

    def fields(self, properties, required=()):
        for name, schema in properties.items():
            default = schema.get("default")
            shown = "required" if name in required else "" if default is None else f"`{str(default).lower() if default is True or default is False else default}`"
            yield f"`{name}`", self.kind(schema), shown, schema.get("description", "")

    def operation(self, method, path, operation):
        text = f"### {method.upper()} {path}\n\n{operation.get('summary', '')}.\n\n{operation.get('description', '')}\n\n"
        parameters = [self.follow(parameter) for parameter in operation.get("parameters", [])]
        rows = [
            (f"`{one['name']}`", one["in"], self.kind(one.get("schema", {})), "required" if one.get("required") else "", one.get("description", ""))
            for one in parameters
        ]
        text += table(["parameter", "in", "type", "", "meaning"], rows)
        content = self.follow(operation.get("requestBody", {})).get("content", {})
        text += table(["body", "schema"], [(f"`{media}`", self.kind(form.get("schema", {}))) for media, form in content.items()])
        rows = []
        for status, answer in operation["responses"].items():
            answer = self.follow(answer)
            forms = ", ".join(f"`{media}`" for media in answer.get("content", {}))
            rows.append((status, forms, answer.get("description", "")))
        return text + table(["status", "answer", "meaning"], rows)

    def schema(self, name, schema):
        text = f"### {name}\n\n{schema.get('description', '')}\n\n"
        if "properties" in schema:
            return text + table(["field", "type", "default", "meaning"], self.fields(schema["properties"], schema.get("required", ())))
        return text + f"{self.kind(schema)}\n\n"

    def page(self):
        text = "# HTTP API\n\nGenerated from [openapi.yaml](../../openapi.yaml), which the server also serves at `/openapi.json`, and shows at `/docs`.\n\n"
        text += self.api["info"]["description"] + "\n\n## Routes\n\n"
        for path, methods in self.api["paths"].items():
            for method, operation in methods.items():
                if method != "parameters":
                    text += self.operation(method, path, operation)
        text += "## Schemas\n\n"
        return text + "".join(self.schema(name, schema) for name, schema in self.schemas.items())


LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


# Protocol buffers

STATEMENTS = {
    "open": re.compile(r"(service|message|enum|oneof) (\w+) \{"),
    "rpc": re.compile(r"rpc (\w+)\((.*?)\) returns \((.*?)\);"),
    "field": re.compile(r"((?:optional |repeated )?[\w.]+|map<.*?>) (\w+) = (\d+);"),
    "value": re.compile(r"(\w+) = (\d+);"),
}
HEADS = {"service": ["call", "request", "answer", "meaning"], "message": ["field", "type", "number", "meaning"], "enum": ["value", "number", "meaning"]}


def grpc_page(text):
    """Reads a proto file of the form that this repository's has: a comment before everything, one statement a line."""
    page = "# gRPC API\n\nGenerated from [restain.proto](../../proto/restain/v1/restain.proto), package `restain.v1`.\n\n"
    comment, kind, inside, rows = [], None, None, []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("//"):
            comment.append(line[2:].strip())
            continue
        said, found = " ".join(comment), {name: pattern.match(line) for name, pattern in STATEMENTS.items()}
        if opened := found["open"]:
            if opened[1] == "oneof":
                inside = said
            else:
                kind, rows = opened[1], []
                page += f"## {opened[2]}\n\n{said}\n\n"
        elif line.startswith("}"):
            if inside is not None:
                inside = None
            else:
                page += table(HEADS[kind], rows)
        elif rpc := found["rpc"]:
            rows.append((f"`{rpc[1]}`", linked(rpc[2]), linked(rpc[3]), said))
        elif kind == "enum" and (value := found["value"]):
            rows.append((f"`{value[1]}`", value[2], said))
        elif field := found["field"]:
            rows.append((f"`{field[2]}`", linked(field[1]), field[3], f"{said} (one of: {inside})" if inside is not None else said))
        comment = []
    return page


def linked(kind):
    """Returns a type with a link to its heading, if it is one of this file's."""
    *before, name = kind.split(" ")
    shown = f"[{name}](#{name.lower()})" if re.fullmatch(r"[A-Z]\w+", name) else f"`{name}`"
    return " ".join([*before, shown])


# Commands

OPTION = re.compile(r"^ {2,6}(-\S.*?|<\S.*?|\[\S.*?)(?: {2,}(.*))?$")
NOTES = re.compile(r"\[(default|env|possible values): ([^\]]*)\]")


def command_page(program):
    """Writes a section for each command of a program, from its `--help`."""
    name = program.name
    top = help_of(program)
    page = f"# {name}\n\n{top.splitlines()[0]}. Generated from `{name} --help` and `{name} COMMAND --help`.\n\n"
    commands = re.findall(r"^  (\w+) {2,}(.*)$", top.split("Commands:")[1].split("Options:")[0], re.M)
    page += table(["command", "what it does"], [(f"[`{one}`](#{name}-{one})", does) for one, does in commands if one != "help"])
    for command, _ in commands:
        if command != "help":
            page += section(name, command, help_of(program, command))
    return page


def help_of(program, *command):
    # `--help` shows the values that the environment sets.
    shown = re.compile("RESTAIN_|(WORLD_SIZE|RANK|LOCAL_RANK|MASTER_ADDR|MASTER_PORT)$")
    # On so wide a screen no line is wrapped.
    environment = {name: value for name, value in os.environ.items() if not shown.match(name)} | {"COLUMNS": "10000"}
    return subprocess.run([program, *command, "--help"], env=environment, capture_output=True, text=True, check=True).stdout


def section(name, command, text):
    does, _, rest = text.partition("\n\n")
    usage = re.search(r"^Usage: (.*)$", rest, re.M)[1]
    page = f"## {name} {command}\n\n{does}.\n\n```text\n{usage}\n```\n\n"
    for heading, options in re.findall(r"^(\S.*):\n(.*?)(?=^\S|\Z)", rest, re.M | re.S):
        rows = [row for row in read_options(options) if not row[0].startswith("`-h,")]
        if rows:
            page += f"**{heading}**\n\n" + table(["option", "meaning", "default", "variable"], rows)
    return page


def read_options(text):
    """Yields for each option its flag, meaning, default and variable."""
    options = []
    for line in text.splitlines():
        if (found := OPTION.match(line)) and not (options and line.startswith("          ")):
            options.append([found[1], [found[2] or ""]])
        elif line.strip() and options:
            options[-1][1].append(line.strip())
    for flag, lines in options:
        meaning, values = [], []
        for line in lines:
            (values if line.startswith("- ") else meaning).append(line)
        said = " ".join(meaning).replace("Possible values:", "")
        notes = dict(NOTES.findall(said))
        said = NOTES.sub("", said).strip()
        if "possible values" in notes:
            said += f" ({notes['possible values']})"
        if values:
            said += ": " + "; ".join(re.sub(r"^- ([\w-]+):?\s*", r"`\1` ", value).strip() for value in values)
        variable = notes.get("env", "").rstrip("=")
        yield f"`{flag}`", said, notes.get("default", ""), f"`{variable}`" if variable else ""


def missing_page(name):
    return (
        f"# {name}\n\nThis copy of the documentation was built without the program `{name}`, from whose `--help` this page is generated. "
        f"Run `{name} --help`, and `{name} COMMAND --help` for the options of a command.\n"
    )
