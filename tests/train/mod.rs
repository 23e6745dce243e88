mod fit;
mod reference;
