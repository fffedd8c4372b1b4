// Command build writes the dashboards, as Grafana imports them, into ops/dashboards: go generate ./ops.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: build FOLDER")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func write(dir string) error {
	for _, d := range dashboards() {
		b, err := d.render()
		if err != nil {
			return fmt.Errorf("%s: %w", d.uid, err)
		}
		if err := os.WriteFile(filepath.Join(dir, d.uid+".json"), b, 0o644); err != nil { //nolint:gosec // anybody may read it
			return err
		}
	}
	return nil
}

func dashboards() []dashboard {
	return []dashboard{overview(), api(), sockets(), presence(), receipts(), webhooks(), dependencies(), processes()}
}
