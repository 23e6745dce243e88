"""Reading the description of the API, and holding an answer against it."""

import jsonschema


def operations(api):
    for path, item in api["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def named(api):
    return {operation["operationId"]: (method, path, operation) for method, path, operation in operations(api)}


def resolve(api, thing):
    while "$ref" in thing:
        found = api
        for step in thing["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        thing = found
    return thing


def validate(api, schema, value):
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", "components": api["components"], **schema}
    jsonschema.Draft202012Validator(document).validate(value)


def check(api, operation, response):
    """The status, the media type, the heads and, of JSON, the body are as described."""
    status = str(response.status_code)
    assert status in operation["responses"], f"{status} is not described: {response.text[:500]}"
    described = resolve(api, operation["responses"][status])
    for name in described.get("headers", {}):
        if name == "Accept-Encoding":
            # A 415 of another reason must not have it (RFC 9110, 12.5.3).
            assert (name in response.headers) == (response.json()["code"] == "unsupported_encoding")
        elif name not in ("Restain-Provenance", "Retry-After"):
            assert name in response.headers, f"no {name}"
    if not response.content:
        assert "content" not in described
        return
    media_type = response.headers["content-type"].split(";")[0]
    assert media_type in described["content"], f"{media_type} is not described"
    content = described["content"][media_type]
    if media_type.endswith("json"):
        validate(api, content["schema"], response.json())
    if media_type == "application/problem+json":
        code = response.json()["code"]
        assert code in content["examples"], f"{code} is not described for {operation['operationId']} {status}"
