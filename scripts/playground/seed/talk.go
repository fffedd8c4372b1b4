package seed

type person struct{ username, name string }

// people are those that are there to try. The first is whom the reader signs in as.
var people = []person{
	{"anna", "Anna Lindqvist"}, {"ben", "Ben Okafor"}, {"cleo", "Cleo Marchetti"}, {"dev", "Dev Patel"}, {"emil", "Emil Novak"}, {"fay", "Fay Tanaka"},
}

type reaction struct{ by, reaction string }

// line is one message. replyTo counts lines from 1; 0 is none.
type line struct {
	by, text  string
	replyTo   int
	mentions  string
	reactions []reaction
}

// chat is a conversation; without a name it is a direct one. Of its lines the first person has not read the last `unread`.
type chat struct {
	key, name, posting string
	members            []string
	history            int // lines of talk before the others
	lines              []line
	unread             int
}

var chats = []chat{
	{key: "fay", members: []string{"fay", "anna"}, unread: 1, lines: []line{
		{by: "fay", text: "Hello Anna, Cleo said that you know the trails around here. May I ask you some things?"},
	}},
	{key: "emil", members: []string{"emil", "anna"}, lines: []line{
		{by: "anna", text: "Did the parcel come?"},
		{by: "emil", text: "It did. The lamp is whole, the box less so."},
		{by: "anna", text: "Good that it wasn't the other way round 😄", reactions: []reaction{{"emil", "😂"}}},
	}},
	{key: "news", name: "Announcements", posting: "admins", members: []string{"cleo", "anna", "ben", "dev", "emil", "fay"}, lines: []line{
		{by: "cleo", text: "Welcome, all. Only admins write here, so that it stays quiet."},
		{by: "cleo", text: "The office is closed on the 24th and from the 27th on. Have a calm week."},
	}},
	{key: "team", name: "Product team", members: []string{"cleo", "anna", "ben", "dev", "emil"}, history: 3_000, unread: 3, lines: []line{
		{by: "dev", text: "The importer is through: 41,000 rows, none refused."},
		{by: "cleo", text: "That is the last thing that was open for Thursday, isn't it?", replyTo: 1},
		{by: "dev", text: "The release notes. Everything else is green.", reactions: []reaction{{"anna", "👍"}, {"emil", "👍"}}},
		{by: "anna", text: "I write them this afternoon. Who reads them once more?"},
		{by: "ben", text: "I do. Send me what you have, half of it is fine too."},
		{by: "emil", text: "The new page is on staging: https://staging.example.com/start"},
		{by: "cleo", text: "It loads at once on my old phone. What did you take out?", replyTo: 6, reactions: []reaction{{"emil", "❤️"}}},
		{by: "emil", text: "Mostly pictures that nobody had looked at since spring."},
		{by: "cleo", text: "Anna, could you look at the wording of the first step?", mentions: "anna"},
	}},
	{key: "cleo", members: []string{"cleo", "anna"}, lines: []line{
		{by: "cleo", text: "Are you in the office tomorrow?"},
		{by: "anna", text: "From ten on. I have the train at 8:40."},
		{by: "cleo", text: "Then let us have lunch, I want to hear about the talk."},
		{by: "anna", text: "With pleasure. The place with the long tables?", reactions: []reaction{{"cleo", "👍"}}},
	}},
	{key: "hike", name: "Weekend hike", members: []string{"anna", "ben", "cleo", "fay"}, unread: 2, lines: []line{
		{by: "anna", text: "Saturday looks dry until four. Shall we take the ridge?"},
		{by: "ben", text: "Yes! How long is it, all in all?"},
		{by: "anna", text: "14 km and 600 m up. Five hours if we stop for lunch.", replyTo: 2},
		{by: "cleo", text: "I bring the bread and the good cheese.", reactions: []reaction{{"anna", "❤️"}, {"ben", "❤️"}, {"fay", "😂"}}},
		{by: "fay", text: "May I bring my sister? She is quicker than all of us."},
		{by: "anna", text: "Of course. The bus leaves at 8:12, platform 3.", replyTo: 5},
		{by: "ben", text: "I am on the bus from the stop before, so keep a seat free for my knees."},
		{by: "cleo", text: "8:12 on a Saturday. The cheese had better be worth it."},
		{by: "fay", text: "My sister says yes. She asks whether there is a place to swim."},
	}},
	{key: "ben", members: []string{"ben", "anna"}, lines: []line{
		{by: "ben", text: "Do you still have the map of the ridge?"},
		{by: "anna", text: "On paper, yes. It is older than the path, though."},
		{by: "ben", text: "All the better, then we find out where it used to go."},
		{by: "anna", text: "That is what you said the last time.", reactions: []reaction{{"ben", "😂"}}},
		{by: "ben", text: "And we saw the lake!", replyTo: 4},
		{by: "anna", text: "We did. See you at the bus 👋"},
	}},
	{key: "all", name: "Everybody", members: []string{"anna", "ben", "cleo", "dev", "emil", "fay"}, lines: []line{
		{by: "anna", text: "A group for everything that has no other place."},
		{by: "dev", text: "Somebody left a green scarf in the kitchen."},
		{by: "fay", text: "That is mine, thank you! I come by for it.", replyTo: 2, reactions: []reaction{{"dev", "👍"}}},
	}},
}

var openings = []string{
	"I looked at", "Could somebody check", "The tests cover", "Next week we finish", "There is a question about", "I wrote down how we do", "We agreed on", "I am done with",
	"The customer asked for", "Let us talk about",
}

var subjects = []string{
	"the import of old invoices", "the wording of the welcome mail", "the numbers of last month", "the new search", "the list of open questions", "the plan for spring",
	"the colours of the diagram", "the review of the contract", "the second step of the form", "the backup of Sunday", "the timetable", "the report for the board", "the size of the pictures",
}

var endings = []string{".", ", and it looks good.", ". Notes are in the usual folder.", ", but not before Tuesday.", ". Does that suit everybody?", ", as always.", "."}

// talk is a sentence of a long history, the same each time.
func talk(i int) string {
	return openings[(i*3+i/11)%len(openings)] + " " + subjects[(i*5+i/7)%len(subjects)] + endings[(i+i/3)%len(endings)]
}
