mod failure; mod server;
fn main(){ server::run(&std::env::args().nth(1).unwrap(), &server::Setting{port:0,cores:vec![0],buffer:4096}).unwrap() }
