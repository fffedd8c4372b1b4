package main

type visit struct{}

func (p *person) presence(string, bool) {}
func (p *person) watch()                {}
