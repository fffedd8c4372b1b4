package user

// SearchQueries are the statements whose plans a test pins.
var SearchQueries = struct{ ByPrefix, ByWords, NearWords, SimilarWords string }{byPrefixSQL, byWordsSQL, nearWordsSQL, similarWordsSQL}
