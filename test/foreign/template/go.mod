module sedge.test/template

go 1.21
