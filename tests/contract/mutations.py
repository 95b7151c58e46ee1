"""Writes copies of the OpenAPI document, each with one change, and prints for each what the tools
must report.

usage: mutations.py DOCUMENT FOLDER

One line for each copy: its name, and the rule of the comparer that must reject it (or of the
linter, prefixed with "lint:"), or "compatible". So every run shows that both tools can fail, and
that the comparer accepts a change that no client notices.
"""

import copy
import json
import pathlib
import sys

METHODS = ("get", "put", "post", "delete", "patch")
MUTATIONS = []


def mutation(expected):
    """Registers the function, which changes the document in place, under its own name."""
    return lambda change: MUTATIONS.append((change.__name__.replace("_", "-"), expected, change))


def operation(document, name):
    for path in document["paths"].values():
        for method in METHODS:
            if path.get(method, {}).get("operationId") == name:
                return path[method]
    raise KeyError(name)


def resolved(document, schema):
    """Resolves the schema, if it is a reference to a component."""
    reference = schema.get("$ref")
    return document["components"]["schemas"][reference.rsplit("/", 1)[1]] if reference else schema


def schema_of(document, message):
    [media] = message["content"].values()
    return resolved(document, media["schema"])


def answer(document, name, status):
    return operation(document, name)["responses"][status]


@mutation("path-removed")
def without_a_path(document):
    del document["paths"]["/v1/verifications/{id}/check"]


@mutation("operation-removed")
def without_an_operation(document):
    del document["paths"]["/v1/verifications/{id}"]["delete"]


@mutation("response-removed")
def without_a_response(document):
    del operation(document, "createVerification")["responses"]["429"]


@mutation("media-type-removed")
def with_another_media_type(document):
    content = answer(document, "createVerification", "429")["content"]
    content["text/plain"] = content.pop(next(iter(content)))


@mutation("response-header-removed")
def without_a_response_header(document):
    headers = answer(document, "createVerification", "201")["headers"]
    del headers[next(name for name in headers if name.lower() == "location")]


@mutation("property-removed")
def without_a_member_of_an_answer(document):
    schema = schema_of(document, answer(document, "createVerification", "201"))
    del schema["properties"]["reference"]
    schema["required"].remove("reference")


@mutation("required-properties-removed")
def with_a_member_of_an_answer_that_may_be_absent(document):
    schema_of(document, answer(document, "createVerification", "201"))["required"].remove("reference")


@mutation("schema-type-changed")
def with_a_member_of_an_answer_of_another_type(document):
    schema_of(document, answer(document, "createVerification", "201"))["properties"]["reference"] = {"type": "integer"}


@mutation("parameter-became-required")
def with_a_parameter_that_became_required(document):
    operation(document, "createVerification")["parameters"][0]["required"] = True


@mutation("parameter-became-required")
def with_a_new_parameter_that_is_required(document):
    parameter = {"name": "page", "in": "query", "required": True, "schema": {"type": "integer"}}
    operation(document, "showVerification")["parameters"].append(parameter)


@mutation("required-properties-added")
def with_a_member_of_a_body_that_became_required(document):
    schema_of(document, operation(document, "createVerification")["requestBody"])["required"].append("purpose")


@mutation("property-removed")
def without_a_member_of_a_body(document):
    del schema_of(document, operation(document, "createVerification")["requestBody"])["properties"]["purpose"]


@mutation("schema-constraint-changed")
def with_less_room_in_a_body(document):
    schema = schema_of(document, operation(document, "checkVerification")["requestBody"])
    schema["properties"]["code"]["maxLength"] = 5


@mutation("security-requirement-changed")
def with_a_key_where_none_was_asked(document):
    operation(document, "proofKeys")["security"] = [{"apiKey": []}]


@mutation("lint:operation-summary")
def without_a_summary(document):
    del operation(document, "createVerification")["summary"]


@mutation("lint:no-unresolved-refs")
def with_a_reference_to_nothing(document):
    [media] = answer(document, "createVerification", "201")["content"].values()
    media["schema"] = {"$ref": "#/components/schemas/Nothing"}


@mutation("compatible")
def with_nothing_changed(document):
    pass


@mutation("compatible")
def with_a_new_operation(document):
    document["paths"]["/v1/new"] = {"get": {"operationId": "new", "responses": {"204": {"description": "None."}}}}


@mutation("compatible")
def with_a_new_member_of_an_answer(document):
    schema_of(document, answer(document, "createVerification", "201"))["properties"]["new"] = {"type": "string"}


@mutation("compatible")
def with_a_new_member_of_a_body_that_may_be_absent(document):
    schema_of(document, operation(document, "createVerification")["requestBody"])["properties"]["new"] = {"type": "string"}


@mutation("compatible")
def with_other_words(document):
    operation(document, "createVerification")["summary"] = "Other words"


def main(source, folder):
    document = json.loads(pathlib.Path(source).read_text())
    for name, expected, change in MUTATIONS:
        changed = copy.deepcopy(document)
        change(changed)
        pathlib.Path(folder, f"{name}.json").write_text(json.dumps(changed, indent=2))
        print(name, expected)


main(*sys.argv[1:])
