package main

import "encoding/json"

// The part of Grafana's dashboard model that is used here.
type (
	dashboardJSON struct {
		UID           string         `json:"uid"`
		Title         string         `json:"title"`
		Description   string         `json:"description"`
		Tags          []string       `json:"tags"`
		Editable      bool           `json:"editable"`
		GraphTooltip  int            `json:"graphTooltip"`
		SchemaVersion int            `json:"schemaVersion"`
		Version       int            `json:"version"`
		Timezone      string         `json:"timezone"`
		Refresh       string         `json:"refresh"`
		Time          timeJSON       `json:"time"`
		Templating    templatingJSON `json:"templating"`
		Links         []linkJSON     `json:"links"`
		Panels        []panelJSON    `json:"panels"`
	}
	timeJSON struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	templatingJSON struct {
		List []variableJSON `json:"list"`
	}
	variableJSON struct {
		Name       string         `json:"name"`
		Label      string         `json:"label"`
		Type       string         `json:"type"`
		Query      string         `json:"query"`
		Datasource *datasourceRef `json:"datasource,omitempty"`
		Refresh    int            `json:"refresh"`
		Sort       int            `json:"sort"`
		Multi      bool           `json:"multi"`
		IncludeAll bool           `json:"includeAll"`
		AllValue   string         `json:"allValue,omitempty"`
		Current    any            `json:"current"`
	}
	datasourceRef struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	linkJSON struct {
		Title       string   `json:"title"`
		Type        string   `json:"type"`
		Icon        string   `json:"icon"`
		Tooltip     string   `json:"tooltip"`
		URL         string   `json:"url"`
		Tags        []string `json:"tags"`
		AsDropdown  bool     `json:"asDropdown"`
		IncludeVars bool     `json:"includeVars"`
		KeepTime    bool     `json:"keepTime"`
		TargetBlank bool     `json:"targetBlank"`
	}
	panelJSON struct {
		ID          int            `json:"id"`
		Type        string         `json:"type"`
		Title       string         `json:"title"`
		Description string         `json:"description,omitempty"`
		GridPos     gridPos        `json:"gridPos"`
		Datasource  *datasourceRef `json:"datasource,omitempty"`
		Targets     []targetJSON   `json:"targets,omitempty"`
		FieldConfig *fieldConfig   `json:"fieldConfig,omitempty"`
		Options     any            `json:"options,omitempty"`
		Links       []linkJSON     `json:"links,omitempty"`
		Collapsed   *bool          `json:"collapsed,omitempty"`
	}
	gridPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	targetJSON struct {
		RefID        string        `json:"refId"`
		Datasource   datasourceRef `json:"datasource"`
		Expr         string        `json:"expr"`
		LegendFormat string        `json:"legendFormat"`
		Instant      bool          `json:"instant"`
		Range        bool          `json:"range"`
		Format       string        `json:"format"`
	}
	fieldConfig struct {
		Defaults  fieldDefaults `json:"defaults"`
		Overrides []any         `json:"overrides"`
	}
	fieldDefaults struct {
		Unit       string     `json:"unit"`
		Min        *float64   `json:"min,omitempty"`
		Max        *float64   `json:"max,omitempty"`
		Thresholds thresholds `json:"thresholds"`
		Color      mode       `json:"color"`
		Custom     any        `json:"custom,omitempty"`
	}
	thresholds struct {
		Mode  string `json:"mode"`
		Steps []step `json:"steps"`
	}
	step struct {
		Color string   `json:"color"`
		Value *float64 `json:"value"`
	}
	mode struct {
		Mode string `json:"mode"`
	}
	timeseriesCustom struct {
		LineWidth       int          `json:"lineWidth"`
		FillOpacity     int          `json:"fillOpacity"`
		ShowPoints      string       `json:"showPoints"`
		Stacking        stackingMode `json:"stacking"`
		ThresholdsStyle mode         `json:"thresholdsStyle"`
	}
	stackingMode struct {
		Mode string `json:"mode"`
	}
	timeseriesOptions struct {
		Legend  legendOptions  `json:"legend"`
		Tooltip tooltipOptions `json:"tooltip"`
	}
	legendOptions struct {
		DisplayMode string   `json:"displayMode"`
		Placement   string   `json:"placement"`
		Calcs       []string `json:"calcs"`
	}
	tooltipOptions struct {
		Mode string `json:"mode"`
		Sort string `json:"sort"`
	}
	statOptions struct {
		ReduceOptions reduceOptions `json:"reduceOptions"`
		ColorMode     string        `json:"colorMode"`
		GraphMode     string        `json:"graphMode"`
		TextMode      string        `json:"textMode"`
	}
	reduceOptions struct {
		Calcs []string `json:"calcs"`
	}
)

const (
	gridWidth   = 24
	graphHeight = 8
	statHeight  = 4
	rowHeight   = 1
	tag         = "parley"
	runbooks    = "https://github.com/parley-chat/parley/blob/main/docs/runbooks/"
)

var prometheus = datasourceRef{Type: "prometheus", UID: "${datasource}"}

// render is the dashboard as Grafana imports it.
func (d dashboard) render() ([]byte, error) {
	out := dashboardJSON{
		UID: d.uid, Title: "Parley / " + d.title, Description: d.about, Tags: []string{tag}, GraphTooltip: 1, SchemaVersion: 39, Version: 1,
		Timezone: "browser", Refresh: "30s", Time: timeJSON{From: "now-1h", To: "now"},
		Templating: templatingJSON{List: variables()},
		Links:      []linkJSON{{Title: "Parley's dashboards", Type: "dashboards", Icon: "external link", Tags: []string{tag}, AsDropdown: true, IncludeVars: true, KeepTime: true}},
	}
	y := 0
	for _, r := range d.rows {
		open := false
		out.Panels = append(out.Panels, panelJSON{
			ID: len(out.Panels) + 1, Type: "row", Title: r.title, GridPos: gridPos{H: rowHeight, W: gridWidth, Y: y}, Collapsed: &open,
		})
		y += rowHeight
		x, height := 0, 0
		for _, p := range r.panels {
			q := p.render(len(out.Panels) + 1)
			if x+q.GridPos.W > gridWidth {
				x, y = 0, y+height
				height = 0
			}
			q.GridPos.X, q.GridPos.Y = x, y
			x, height = x+q.GridPos.W, max(height, q.GridPos.H)
			out.Panels = append(out.Panels, q)
		}
		y += height
	}
	b, err := json.MarshalIndent(out, "", "  ")
	return append(b, '\n'), err
}

// variables narrow every query. "All" is .*, which a label that is not there matches as well: a Prometheus outside Kubernetes
// has neither namespace nor pod.
func variables() []variableJSON {
	narrowed := func(name, label, query string) variableJSON {
		return variableJSON{
			Name: name, Label: label, Type: "query", Query: query, Datasource: &prometheus, Refresh: 2, Sort: 1, Multi: true, IncludeAll: true,
			AllValue: ".*", Current: map[string]any{"selected": true, "text": []string{"All"}, "value": []string{"$__all"}},
		}
	}
	return []variableJSON{
		{Name: "datasource", Label: "Datasource", Type: "datasource", Query: "prometheus", Refresh: 1, Current: map[string]any{"selected": false, "text": "default", "value": "default"}},
		narrowed("namespace", "Namespace", "label_values(parley_build_info, namespace)"),
		narrowed("job", "Job", `label_values(parley_build_info{namespace=~"$namespace"}, job)`),
		narrowed("pod", "Pod", `label_values(parley_build_info{namespace=~"$namespace", job=~"$job"}, pod)`),
	}
}

func (p panel) render(id int) panelJSON {
	out := panelJSON{
		ID: id, Type: p.kind, Title: p.title, Description: p.about, Datasource: &prometheus,
		FieldConfig: &fieldConfig{Overrides: []any{}, Defaults: fieldDefaults{
			Unit: p.unit, Max: p.max, Thresholds: p.thresholds(), Color: mode{"palette-classic"},
		}},
	}
	for i, q := range p.queries {
		out.Targets = append(out.Targets, targetJSON{
			RefID: string(rune('A' + i)), Datasource: prometheus, Expr: q.expr, LegendFormat: q.legend,
			Instant: p.kind == table, Range: p.kind != table, Format: map[bool]string{true: "table", false: "time_series"}[p.kind == table],
		})
	}
	if p.alert != "" {
		out.Links = []linkJSON{{Title: "Runbook: " + p.alert, Type: "link", Icon: "doc", Tags: []string{}, URL: runbooks + p.alert + ".md", TargetBlank: true}}
	}
	switch p.kind {
	case graph:
		zero := 0.0
		custom := timeseriesCustom{LineWidth: 1, FillOpacity: 10, ShowPoints: "never", Stacking: stackingMode{"none"}, ThresholdsStyle: mode{"off"}}
		if p.stacked {
			custom.Stacking, custom.FillOpacity = stackingMode{"normal"}, 40
		}
		if p.limit != 0 {
			custom.ThresholdsStyle = mode{"dashed"}
		}
		out.FieldConfig.Defaults.Min, out.FieldConfig.Defaults.Custom = &zero, custom
		out.Options = timeseriesOptions{
			Legend:  legendOptions{DisplayMode: "list", Placement: "bottom", Calcs: []string{}},
			Tooltip: tooltipOptions{Mode: "multi", Sort: "desc"},
		}
	case stat:
		out.FieldConfig.Defaults.Color = mode{"thresholds"}
		out.Options = statOptions{
			ReduceOptions: reduceOptions{Calcs: []string{"lastNotNull"}}, ColorMode: "value", GraphMode: "area", TextMode: "auto",
		}
	}
	out.GridPos = gridPos{W: p.width, H: graphHeight}
	if p.kind == stat {
		out.GridPos.H = statHeight
	}
	return out
}

// thresholds are green on the good side of the limit, and red on the other.
func (p panel) thresholds() thresholds {
	good, bad := "green", "red"
	if p.below {
		good, bad = bad, good
	}
	t := thresholds{Mode: "absolute", Steps: []step{{Color: good}}}
	if p.limit != 0 {
		t.Steps = append(t.Steps, step{Color: bad, Value: &p.limit})
	}
	return t
}
