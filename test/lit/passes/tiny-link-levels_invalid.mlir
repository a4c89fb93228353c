// RUN: tinymlir-opt %s --split-input-file --verify-diagnostics --tiny-link-levels -o /dev/null

// There are levels.
// expected-error@+1 {{expects two modules or more, a level in each}}
module {
  module {
    func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<4xi8>) {
      return
    }
  }
}

// -----

// And nothing else.
// expected-error@+1 {{expects two modules or more, a level in each}}
module {
  module {
  }
  func.func @main() {
    return
  }
}

// -----

// Each is a network,
module {
  // expected-error@+1 {{expects a function named @main}}
  module {
  }
  module {
  }
}

// -----

// with its arena planned,
module {
  module {
    // expected-error@+1 {{expects inputs, outputs and an arena as memrefs}}
    func.func @main(%x: tensor<8xi8>, %y: memref<8xi8>, %arena: memref<4xi8>) {
      return
    }
  }
  module {
    func.func @main(%x: tensor<8xi8>, %y: memref<8xi8>, %arena: memref<4xi8>) {
      return
    }
  }
}

// -----

// and they look alike from outside.
module {
  module {
    func.func @main(%x: memref<8xi8>, %y: memref<8xi8>, %arena: memref<4xi8>) {
      return
    }
  }
  module {
    // expected-error@+1 {{expects the inputs and outputs of the first level}}
    func.func @main(%x: memref<8xi8>, %y: memref<9xi8>, %arena: memref<4xi8>) {
      return
    }
  }
}

// -----

// An input that one level overwrites is none for another.
module {
  module {
    // expected-error@+1 {{expects an input that the caller holds, for every level}}
    func.func @main(%y: memref<8xi8>, %arena: memref<4xi8>) attributes {tiny.input = "in-arena"} {
      return
    }
  }
  module {
    func.func @main(%y: memref<8xi8>, %arena: memref<4xi8>) attributes {tiny.input = "in-arena"} {
      return
    }
  }
}
