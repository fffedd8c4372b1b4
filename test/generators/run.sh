#!/usr/bin/env bash
# run.sh URL: makes clients of the OpenAPI document that the api at URL serves, with the generators that people use, type-checks them and
# has each chat. It needs Node and npm; Go for oapi-codegen.
set -euo pipefail
