module programs.steeltown.dev/pause

go 1.24
