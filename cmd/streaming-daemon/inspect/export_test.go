package inspect

// HandlerWithin is Handler with another patience.
var HandlerWithin = handler
