"""The REST face, made from the http annotations of the API.

`routes` finds the RPC of a path, `query` and `decode` build its request, `encode` writes its
answer, `rest` does these in order for each HTTP request, `site` holds what lies outside `/api/v1`.
JSON follows the rules of Determined's gateway, which are not quite those of proto3 JSON: defaults
are always written, unset messages as null, and free-form numbers keep being whole.
"""
