#!/usr/bin/env bash
# check-dashboards.sh: ops/dashboards against Grafana's own schema, the types of @grafana/schema. Needs npm and a registry, so
# make test leaves it out. A field that the schema does not know, or that lacks, is an error of tsc.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
have npm || die "npm is needed"
dashboards=$PWD/ops/dashboards
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-audit --no-fund --ignore-scripts @grafana/schema@12.4.11 typescript@5
for file in "$dashboards"/*.json; do
	{
		echo "import { Dashboard } from '@grafana/schema';"
		# JSON has the values of enums, not their names.
		# shellcheck disable=SC2016
		echo 'type Plain<T> = T extends string ? T | `${T}` : T extends (infer U)[] ? Plain<U>[] : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;'
		printf 'export const dashboard: Plain<Dashboard> = '
		cat "$file"
	} >"$(basename "$file" .json).ts"
done
echo '{"compilerOptions":{"strict":true,"noEmit":true,"skipLibCheck":true,"module":"esnext","moduleResolution":"bundler","target":"es2022","types":[]},"include":["*.ts"]}' >tsconfig.json
npx tsc -p .
say "all dashboards fit Grafana's schema"
