// Fills the chart's templates as Helm does: Go's text/template with Helm's function toJson. Standard input: {"data": …, "templates": {name: text}};
// standard output: {name: text}. Only the standard library, so that it is built in a second and fetches nothing.
package main

import (
	"encoding/json"
	"log"
	"os"
	"strings"
	"text/template"
)

func main() {
	var input struct {
		Data      map[string]any    `json:"data"`
		Templates map[string]string `json:"templates"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		log.Fatal(err)
	}
	functions := template.FuncMap{"toJson": func(value any) (string, error) {
		text, err := json.Marshal(value)
		return string(text), err
	}}
	filled := map[string]string{}
	for name, text := range input.Templates {
		parsed, err := template.New(name).Option("missingkey=error").Funcs(functions).Parse(text)
		if err != nil {
			log.Fatal(err)
		}
		var out strings.Builder
		if err := parsed.Execute(&out, input.Data); err != nil {
			log.Fatal(err)
		}
		filled[name] = out.String()
	}
	if err := json.NewEncoder(os.Stdout).Encode(filled); err != nil {
		log.Fatal(err)
	}
}
