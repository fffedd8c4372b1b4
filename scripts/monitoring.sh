# Prometheus and Grafana for `make run`, where they can be had. Parley runs without them. Source it after children.sh.
# shellcheck shell=bash

# provide_monitoring NAME=PORT... starts a Prometheus that scrapes the processes' own endpoints and has the project's rules, and,
# in a container, a Grafana with the project's dashboards. It sets prometheus_url and grafana_url, empty for what there is not.
provide_monitoring() {
	prometheus_url='' grafana_url=''
	local prometheus_port grafana_port
	port prometheus_port 9096
	if have prometheus || (need_packages prometheus) 2>/dev/null; then
		prometheus_config "$PWD/ops/rules" "$@"
		launch prometheus prometheus --config.file=.run/prometheus.yaml --storage.tsdb.path=.run/prometheus \
			--web.listen-address="127.0.0.1:$prometheus_port"
	elif docker_works; then
		prometheus_config /etc/prometheus/rules "$@"
		host_container prometheus -v "$PWD/.run/prometheus.yaml:/etc/prometheus/prometheus.yml:ro" -v "$PWD/ops/rules:/etc/prometheus/rules:ro" \
			-v "$(checkout_name)-prometheus:/prometheus" prom/prometheus:v2.53.4 --config.file=/etc/prometheus/prometheus.yml \
			--storage.tsdb.path=/prometheus --web.listen-address="127.0.0.1:$prometheus_port"
	else
		say "No Prometheus: it needs Debian's package prometheus, or Docker"
		return
	fi
	prometheus_url=http://127.0.0.1:$prometheus_port
	if ! docker_works; then
		say "No Grafana: it needs Docker"
		return
	fi
	port grafana_port 3000
	grafana_config
	host_container grafana -v "$PWD/.run/grafana:/etc/grafana/provisioning:ro" -v "$PWD/ops/dashboards:/dashboards:ro" \
		-e GF_SERVER_HTTP_ADDR=127.0.0.1 -e "GF_SERVER_HTTP_PORT=$grafana_port" -e GF_AUTH_ANONYMOUS_ENABLED=true \
		-e GF_ANALYTICS_REPORTING_ENABLED=false -e GF_ANALYTICS_CHECK_FOR_UPDATES=false grafana/grafana:11.6.0
	grafana_url=http://127.0.0.1:$grafana_port
}

# host_container NAME ARG... is launch for a container that shares this machine's network: it asks ports of 127.0.0.1.
host_container() {
	local name=$1 full
	shift
	full=$(checkout_name)-$name
	docker rm -f "$full" >/dev/null 2>&1 || true # one that a killed run left
	launch "$name" docker run --rm --name "$full" --network host "$@"
}

# prometheus_config RULES NAME=PORT... gives each process the labels that it would have in Kubernetes.
prometheus_config() {
	local rules=$1 target
	shift
	{
		printf 'global: {scrape_interval: 5s, evaluation_interval: 15s}\nrule_files: ["%s/*.yaml"]\n' "$rules"
		printf 'scrape_configs:\n  - job_name: parley\n    static_configs:\n'
		for target; do
			printf '      - {targets: ["127.0.0.1:%s"], labels: {namespace: local, pod: "%s"}}\n' "${target#*=}" "${target%=*}"
		done
	} >.run/prometheus.yaml
}

grafana_config() {
	mkdir -p .run/grafana/datasources .run/grafana/dashboards
	printf 'apiVersion: 1\ndatasources:\n  - {name: Prometheus, uid: prometheus, type: prometheus, access: proxy, url: "%s", isDefault: true}\n' \
		"$prometheus_url" >.run/grafana/datasources/parley.yaml
	printf 'apiVersion: 1\nproviders:\n  - {name: Parley, type: file, folder: Parley, options: {path: /dashboards}}\n' \
		>.run/grafana/dashboards/parley.yaml
}
