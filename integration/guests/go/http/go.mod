// What the generated bindings call themselves; they come to lie beside the handler.
module wit_component

go 1.25

require go.bytecodealliance.org/pkg v0.2.3
